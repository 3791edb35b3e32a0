// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"net/netip"
	"testing"

	"korat/api"
)

// TestSearch: the search finds each block of the pool that nothing stands in the way of once, and
// no other.
func TestSearch(t *testing.T) {
	for name, c := range map[string]struct {
		cidr     string
		bits     int
		objs     []api.Object
		want     int
		excluded []string
	}{
		"empty":           {"10.0.0.0/24", 28, nil, 16, nil},
		"one block":       {"10.0.0.0/24", 24, nil, 1, nil},
		"single address":  {"10.0.0.0/28", 32, nil, 16, nil},
		"IPv6, 16 blocks": {"fd00::/112", 116, nil, 16, nil},
		"taken": {
			"10.0.0.0/24", 28,
			[]api.Object{affinity("b", "10.0.0.16/28", "pending"), affinity("a", "10.0.0.32/28", "pending")},
			15,
			[]string{"10.0.0.16/28"},
		},
		"smaller ones": {
			"10.0.0.0/24", 28,
			[]api.Object{affinity("b", "10.0.0.17/32", "confirmed"), affinity("b", "10.0.0.20/30", "confirmed")},
			15,
			[]string{"10.0.0.16/28"},
		},
		"larger one": {
			"10.0.0.0/24", 28,
			[]api.Object{affinity("b", "10.0.0.128/26", "confirmed")},
			12,
			[]string{"10.0.0.128/26"},
		},
		"larger than the pool":  {"10.0.0.0/24", 28, []api.Object{affinity("b", "10.0.0.0/16", "confirmed")}, 0, nil},
		"of another pool":       {"10.0.0.0/24", 28, []api.Object{affinity("b", "10.0.1.0/28", "confirmed")}, 16, nil},
		"reserved":              {"10.0.0.0/24", 28, []api.Object{reservation("10.0.0.64/27", "10.0.0.0/28", "10.0.0.17")}, 13, []string{"10.0.0.64/27", "10.0.0.0/28"}},
		"reserved bit by bit":   {"10.0.0.0/24", 30, []api.Object{reservation("10.0.0.4", "10.0.0.5", "10.0.0.6/31")}, 63, []string{"10.0.0.4/30"}},
		"all reserved":          {"10.0.0.0/24", 28, []api.Object{reservation("0.0.0.0/0")}, 0, nil},
		"huge, but for four":    {"fd00::/48", 122, []api.Object{allBut("fd00::/48", "fd00:0:0:abcd:1234:5678:9abc:de00/120")}, 4, nil},
		"huge, nearly reserved": {"fd00::/48", 122, []api.Object{reservation("fd00::/49", "fd00:0:0:8000::/50", "fd00:0:0:c000::/50")}, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := Pool{Name: "p", CIDR: netip.MustParsePrefix(c.cidr), BlockBits: c.bits}
			obs := obstaclesIn(synced(c.objs...), p, "a")
			found := 0
			for {
				b, ok := p.free("a", obs)
				if !ok {
					break
				}
				if b != b.Masked() || !p.holds(b) || b.Bits() != c.bits || obs.exact[b] {
					t.Fatalf("found %s", b)
				}
				for _, no := range c.excluded {
					if netip.MustParsePrefix(no).Overlaps(b) {
						t.Fatalf("found %s, which overlaps %s", b, no)
					}
				}
				obs.exact[b] = true
				found++
			}
			if found != c.want {
				t.Errorf("found %d blocks, want %d", found, c.want)
			}
		})
	}
}

// allBut reserves a range except for a small one in it.
func allBut(cidr, free string) *api.IPReservation {
	p := netip.MustParsePrefix(free)
	r := reservation()
	for bits := netip.MustParsePrefix(cidr).Bits() + 1; bits <= p.Bits(); bits++ {
		raw := p.Addr().AsSlice()
		raw[(bits-1)/8] ^= 1 << (7 - (bits-1)%8)
		sibling, _ := netip.AddrFromSlice(raw)
		r.Spec.ReservedCIDRs = append(r.Spec.ReservedCIDRs, netip.PrefixFrom(sibling, bits).Masked().String())
	}
	return r
}

// TestSearchHuge: a pool of 2^74 blocks is searched as fast as any, behind a reserved half too.
func TestSearchHuge(t *testing.T) {
	p := Pool{Name: "p", CIDR: netip.MustParsePrefix("fd00::/48"), BlockBits: 122}
	seen := map[netip.Prefix]bool{}
	for _, node := range []string{"a", "b", "c", "d"} {
		b, ok := p.free(node, obstaclesIn(synced(), p, node))
		if !ok || !p.holds(b) || seen[b] {
			t.Errorf("node %s: %s, %v", node, b, ok)
		}
		seen[b] = true
	}
	s := synced(reservation("fd00::/65"))
	b, ok := p.free("a", obstaclesIn(s, p, "a"))
	if !ok || netip.MustParsePrefix("fd00::/65").Overlaps(b) {
		t.Errorf("found %s, %v", b, ok)
	}
}

// TestStart: nodes begin all over the pool, at a block's beginning, and always at the same one.
func TestStart(t *testing.T) {
	for _, p := range []Pool{
		{Name: "v4", CIDR: netip.MustParsePrefix("10.128.0.0/9"), BlockBits: 26},
		{Name: "all of v4", CIDR: netip.MustParsePrefix("0.0.0.0/0"), BlockBits: 32},
		{Name: "v6", CIDR: netip.MustParsePrefix("fd00:1:2::/48"), BlockBits: 122},
		{Name: "across the halves", CIDR: netip.MustParsePrefix("fd00:1:2::/48"), BlockBits: 112},
		{Name: "single", CIDR: netip.MustParsePrefix("fd00::/66"), BlockBits: 128},
	} {
		halves, quarters := map[bool]int{}, map[string]bool{}
		for i := range 200 {
			a := p.start(fmt.Sprint("node", i))
			b := netip.PrefixFrom(a, p.BlockBits)
			if b != b.Masked() || !p.holds(b) || a != p.start(fmt.Sprint("node", i)) {
				t.Fatalf("%s: node%d starts at %s", p.Name, i, b)
			}
			half, _ := a.Prefix(p.CIDR.Bits() + 1)
			halves[half.Addr() == p.CIDR.Addr()]++
			end, _ := a.Prefix(p.BlockBits - 1)
			quarters[fmt.Sprint(half.Addr() == p.CIDR.Addr(), end.Addr() == a)] = true
		}
		if halves[true] < 60 || halves[false] < 60 || len(quarters) < 4 {
			t.Errorf("%s: %v start in the halves, %v", p.Name, halves, quarters)
		}
	}
	// The blocks of existing clusters were chosen by it.
	if have := (Pool{Name: "p", CIDR: netip.MustParsePrefix("172.17.0.0/16"), BlockBits: 24}).start("host-a"); have != netip.MustParseAddr("172.17.137.0") {
		t.Errorf("host-a starts at %s", have)
	}
}

func TestLast(t *testing.T) {
	for cidr, want := range map[string]string{
		"10.0.0.0/30": "10.0.0.3", "10.0.0.7/32": "10.0.0.7", "0.0.0.0/0": "255.255.255.255", "10.0.0.77/26": "10.0.0.127",
		"fd00::/64": "fd00::ffff:ffff:ffff:ffff", "::/0": "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fd00::1/128": "fd00::1",
	} {
		if have := last(netip.MustParsePrefix(cidr)).String(); have != want {
			t.Errorf("%s: have %s, want %s", cidr, have, want)
		}
	}
}
