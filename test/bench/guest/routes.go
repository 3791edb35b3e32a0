// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"korat/felix/dataplane"
	"korat/felix/kernel"
	"korat/felix/reconcile"
)

// Routes compares felix/kernel's routing table with bare netlink, in this process.
type Routes struct{}

// RoutesConfig says how much: Pairs measurements of Count learned routes over Device, whose subnet's
// addresses from Gateway on are the next hops.
type RoutesConfig struct {
	Pairs, Count int
	Device       string
	Gateway      netip.Addr
}

// Times are samples taken in turns.
type Times struct{ Ours, Baseline []time.Duration }

type routeStep = reconcile.Step[dataplane.RouteKey, dataplane.Route]

type wantedRoutes = map[dataplane.RouteKey]dataplane.Route

// gateways is how many different next hops the routes have.
const gateways = 100

func (cfg RoutesConfig) want() wantedRoutes {
	want := make(wantedRoutes, cfg.Count)
	for i := range cfg.Count {
		want[dataplane.RouteKey{Prefix: cfg.prefix(i)}] = dataplane.Route{
			NextHops: []dataplane.NextHop{{Device: cfg.Device, Gateway: cfg.gateway(i)}},
		}
	}
	return want
}

// prefix is the i-th /26 of 10.0.0.0/8.
func (RoutesConfig) prefix(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 10<<24|uint32(i)<<6))), 26)
}

func (cfg RoutesConfig) gateway(i int) netip.Addr {
	a := cfg.Gateway.As4()
	a[3] += byte(i % gateways)
	return netip.AddrFrom4(a)
}

// Resync compares a resync that finds nothing to do with a dump that is read and not looked at.
func (*Routes) Resync(cfg RoutesConfig, times *Times) (err error) {
	h, err := kernel.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	step, want := reconcile.NewStep("routes", h.Routes()), cfg.want()
	if _, err := apply(step, want); err != nil {
		return err
	}
	bare, err := dialBare()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bare.close()) }()
	for range cfg.Pairs {
		began := time.Now()
		step.Invalidate()
		result, err := apply(step, want)
		if err != nil {
			return err
		}
		times.Ours = append(times.Ours, time.Since(began))
		if result.Set+result.Deleted > 0 {
			return fmt.Errorf("resync: %d routes were not as they had been written", result.Set+result.Deleted)
		}
		began = time.Now()
		n, err := bare.dump()
		if err != nil {
			return err
		}
		times.Baseline = append(times.Baseline, time.Since(began))
		if n < cfg.Count {
			return fmt.Errorf("dump: %d routes of %d", n, cfg.Count)
		}
	}
	_, err = apply(step, nil)
	return err
}

// Write compares writing all routes into an empty table.
func (*Routes) Write(cfg RoutesConfig, times *Times) error {
	want := cfg.want()
	for range cfg.Pairs {
		took, err := cfg.writeOurs(want)
		if err != nil {
			return err
		}
		times.Ours = append(times.Ours, took)
		if took, err = cfg.writeBare(); err != nil {
			return err
		}
		times.Baseline = append(times.Baseline, took)
	}
	return nil
}

func (cfg RoutesConfig) writeOurs(want wantedRoutes) (took time.Duration, err error) {
	h, err := kernel.Open()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	step := reconcile.NewStep("routes", h.Routes())
	if _, err := apply(step, nil); err != nil {
		return 0, err
	}
	began := time.Now()
	if _, err = apply(step, want); err != nil {
		return 0, err
	}
	took = time.Since(began)
	_, err = apply(step, nil)
	return took, err
}

func (cfg RoutesConfig) writeBare() (took time.Duration, err error) {
	bare, err := dialBare()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, bare.close()) }()
	began := time.Now()
	if err := bare.write(cfg); err != nil {
		return 0, err
	}
	took = time.Since(began)
	// Nobody listens to the kernel while the baseline writes, so this Handle comes now.
	h, err := kernel.Open()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	result, err := apply(reconcile.NewStep("routes", h.Routes()), nil)
	if err == nil && result.Deleted != cfg.Count {
		err = fmt.Errorf("the bare writer wrote %d routes, want %d", result.Deleted, cfg.Count)
	}
	return took, err
}

func apply(step *routeStep, want wantedRoutes) (reconcile.Result, error) {
	return step.Apply(context.Background(), want, nil)
}
