// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"math/big"
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
		"huge, nearly reserved": {"fd00::/48", 122, []api.Object{reservation("fd00::/49", "fd00:0:0:8000::/50", "fd00:0:0:c000::/50")}, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := Pool{"p", netip.MustParsePrefix(c.cidr), c.bits}
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

// TestSearchHuge: a pool of 2^74 blocks is searched as fast as any, behind a reserved half too.
func TestSearchHuge(t *testing.T) {
	p := Pool{"p", netip.MustParsePrefix("fd00::/48"), 122}
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

// TestBlockByIndex holds the arithmetic against big integers.
func TestBlockByIndex(t *testing.T) {
	for _, p := range []Pool{
		{"v4", netip.MustParsePrefix("10.128.0.0/9"), 26},
		{"all of v4", netip.MustParsePrefix("0.0.0.0/0"), 32},
		{"v6", netip.MustParsePrefix("fd00:1:2::/48"), 122},
		{"across the halves", netip.MustParsePrefix("fd00:1:2::/48"), 112},
		{"single", netip.MustParsePrefix("fd00::/66"), 128},
	} {
		top := uint64(1)<<min(p.BlockBits-p.CIDR.Bits(), maxIndexBits) - 1
		for _, index := range []uint64{0, 1, 2, top / 3, top / 2, top - 1, top} {
			base := p.CIDR.Addr()
			sum := new(big.Int).SetUint64(index)
			sum.Lsh(sum, uint(base.BitLen()-p.BlockBits)).Add(sum, new(big.Int).SetBytes(base.AsSlice()))
			addr, _ := netip.AddrFromSlice(sum.FillBytes(make([]byte, base.BitLen()/8)))
			if have := p.block(index); have != netip.PrefixFrom(addr, p.BlockBits) || !p.holds(have) {
				t.Errorf("%s: block %d is %s, want %s", p.Name, index, have, addr)
			}
		}
	}
}
