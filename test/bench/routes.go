// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"net/netip"

	"korat/test/bench/guest"
)

// routes compares felix/kernel's routing table with bare netlink.
func routes(ctx context.Context, s *Suite) (rows []Row, err error) {
	h, err := s.lone(ctx, "routes", netip.MustParsePrefix("192.168.100.1/24"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	cfg := guest.RoutesConfig{Count: 10_000, Device: "eth0", Gateway: netip.MustParseAddr("192.168.100.100")}
	for _, m := range []struct {
		method, name string
		pairs        int
		target       float64
	}{
		{"Routes.Resync", "resync of 10,000 unchanged routes, to a bare dump", 60, 1.2},
		{"Routes.Write", "writing 10,000 routes, to bare netlink in batches", 20, 1.3},
	} {
		cfg.Pairs = m.pairs
		var times guest.Times
		if err := h.guest.Call(ctx, m.method, cfg, &times); err != nil {
			return rows, err
		}
		var ours, baseline Series
		for i := range times.Ours {
			ours.Add(times.Ours[i])
			baseline.Add(times.Baseline[i])
		}
		rows = append(rows, Medians(m.name, ours, baseline, m.target))
	}
	return rows, nil
}
