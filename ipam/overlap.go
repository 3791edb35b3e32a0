// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"net/netip"
	"strings"

	"korat/api"
	"korat/ipam/block"
)

// contest finds the confirmed blocks that share addresses with another one. Claims rule that out;
// but a human's hand or a restored backup may bring it about, and then no address is to be given twice.
func (bs *blocks) contest(table api.Table[*api.IPAMBlock]) {
	for _, o := range bs.own() {
		o.rival = nil
		if others := rivals(table, o.prefix); len(others) > 0 {
			o.rival = others[0]
		}
	}
}

// rivals gives the blocks, other than the one named for p, that have addresses of p. It looks them up by their
// names, so that it costs the same in a cluster of any size.
func rivals(table api.Table[*api.IPAMBlock], p netip.Prefix) []*api.IPAMBlock {
	var found []*api.IPAMBlock
	for bits := max(0, p.Addr().BitLen()-block.MaxHostBits); bits < p.Bits(); bits++ {
		around, _ := p.Addr().Prefix(bits)
		if obj, ok := table.Get(api.BlockName(around)); ok {
			found = append(found, obj)
		}
	}
	for _, beginning := range beginnings(p) {
		for _, obj := range table.Under(beginning) {
			q, err := netip.ParsePrefix(obj.Spec.CIDR)
			if err == nil && q.Bits() > p.Bits() && p.Contains(q.Addr()) {
				found = append(found, obj)
			}
		}
	}
	return found
}

// beginnings gives what the names of all blocks within p begin with; other blocks' names may too.
func beginnings(p netip.Prefix) []string {
	var all []string
	if p.Addr().Is4() {
		raw := p.Addr().As4()
		for i := range 1 << min(8, max(0, 24-p.Bits())) {
			all = append(all, fmt.Sprintf("%d-%d-%d-", raw[0], raw[1], int(raw[2])+i))
		}
		return all
	}
	// A block has at most 16 host bits, which are the last group. The text of the other groups depends on it only in
	// that a last group of zero may be part of the "::" (RFC 5952).
	raw := p.Addr().As16()
	raw[14], raw[15] = 0, 1
	text := netip.AddrFrom16(raw).String()
	all = append(all, text[:strings.LastIndexByte(text, ':')+1])
	raw[15] = 0
	all = append(all, netip.AddrFrom16(raw).String()+"-")
	for i := range all {
		all[i] = strings.ReplaceAll(all[i], ":", "-")
	}
	return all
}
