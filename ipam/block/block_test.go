// SPDX-License-Identifier: Apache-2.0

package block_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"korat/api"
	"korat/ipam/block"
)

func mustNew(t *testing.T, cidr string) *block.Block {
	t.Helper()
	b, err := block.New(netip.MustParsePrefix(cidr), "host:a")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// text shows a block as "held: addr=handle#seq … free: addr …".
func text(b *block.Block) string {
	var s strings.Builder
	for a, al := range b.All() {
		fmt.Fprintf(&s, "%s=%s#%d ", a, al.Handle, al.Sequence)
	}
	s.WriteString("free")
	for _, o := range b.Spec().Unallocated {
		fmt.Fprintf(&s, " %d", o)
	}
	return s.String()
}

func TestNewRefuses(t *testing.T) {
	for cidr, want := range map[string]string{
		"10.0.0.1/24":          "host bits are set: want 10.0.0.0/24",
		"10.0.0.0/8":           "larger than a /16",
		"fd00::/64":            "larger than a /112",
		"::ffff:10.0.0.0/120":  "IPv4-mapped",
		"::ffff:10.0.0.16/124": "IPv4-mapped",
	} {
		if _, err := block.New(netip.MustParsePrefix(cidr), ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: have error %v, want one with %q", cidr, err, want)
		}
	}
	if _, err := block.New(netip.Prefix{}, ""); err == nil {
		t.Error("the zero prefix was accepted")
	}
}

func TestSizesAndFamilies(t *testing.T) {
	for cidr, want := range map[string]struct {
		size        int
		first, last string
	}{
		"172.17.8.0/24":   {256, "172.17.8.0", "172.17.8.255"},
		"10.0.255.252/30": {4, "10.0.255.252", "10.0.255.255"},
		"10.1.2.3/32":     {1, "10.1.2.3", "10.1.2.3"},
		"10.16.0.0/20":    {4096, "10.16.0.0", "10.16.15.255"},
		"10.16.0.0/16":    {65536, "10.16.0.0", "10.16.255.255"},
		"fd00::40/122":    {64, "fd00::40", "fd00::7f"},
		"fd00::1:0/116":   {4096, "fd00::1:0", "fd00::1:fff"},
		"fd00::9/128":     {1, "fd00::9", "fd00::9"},
	} {
		b := mustNew(t, cidr)
		if b.Size() != want.size {
			t.Errorf("%s: size %d, want %d", cidr, b.Size(), want.size)
		}
		last := netip.MustParseAddr(want.last)
		first, _ := b.Next(nil)
		if err := b.AssignAddr(last, block.Holder{Handle: "h"}); err != nil || first.String() != want.first {
			t.Errorf("%s: first %s, last: %v", cidr, first, err)
		}
		if err := b.AssignAddr(last.Next(), block.Holder{Handle: "h"}); !errors.Is(err, block.ErrOutside) {
			t.Errorf("%s: one past the end: %v", cidr, err)
		}
	}
}

func TestAssignAndRelease(t *testing.T) {
	b := mustNew(t, "10.0.0.0/29")
	reserved := func(a netip.Addr) bool { return a == netip.MustParseAddr("10.0.0.1") }
	steps := []struct {
		do   func() string
		want string
	}{
		{func() string { return fmt.Sprint(b.Assign(2, block.Holder{Handle: "x"}, reserved)) }, "[10.0.0.0 10.0.0.2]"},
		{func() string { return text(b) }, "10.0.0.0=x#1 10.0.0.2=x#2 free 1 3 4 5 6 7"},
		{func() string {
			return fmt.Sprint(b.AssignAddr(netip.MustParseAddr("10.0.0.1"), block.Holder{Handle: "y"}))
		}, "<nil>"},
		{
			func() string {
				return fmt.Sprint(b.AssignAddr(netip.MustParseAddr("10.0.0.1"), block.Holder{Handle: "z"}))
			},
			`10.0.0.1: address is in use by handle "y"`,
		},
		{func() string { return fmt.Sprint(b.ReleaseByHandle("x", time.Time{})) }, "[10.0.0.0 10.0.0.2]"},
		{func() string { return fmt.Sprint(b.ReleaseByHandle("x", time.Time{})) }, "[]"},
		{func() string { return text(b) }, "10.0.0.1=y#3 free 3 4 5 6 7 0 2"},
		{func() string { return fmt.Sprint(b.Assign(9, block.Holder{Handle: "w"}, nil)) }, "[10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6 10.0.0.7 10.0.0.0 10.0.0.2]"},
		{func() string { return fmt.Sprint(b.Free(nil), b.Held(), b.Sequence()) }, "0 8 12"},
		{
			func() string { return fmt.Sprint(b.Release(netip.MustParseAddr("10.0.0.1"), 2, time.Time{})) },
			`release 10.0.0.1: assignment has changed meanwhile: now number 3 of handle "y", not 2`,
		},
		{func() string { return fmt.Sprint(b.Release(netip.MustParseAddr("10.0.0.1"), 3, time.Time{})) }, "<nil>"},
		{
			func() string { return fmt.Sprint(b.Release(netip.MustParseAddr("10.0.0.1"), 3, time.Time{})) },
			"release 10.0.0.1: assignment has changed meanwhile: it is free",
		},
		{func() string { return fmt.Sprint(b.Hold(netip.MustParseAddr("10.0.0.0"), block.Holder{Handle: "v"})) }, "<nil>"},
		{func() string { a, _ := b.At(netip.MustParseAddr("10.0.0.0")); return a.Handle }, "v"},
		{func() string { return fmt.Sprint(b.Free(reserved), b.Free(nil)) }, "0 1"},
		{func() string { _, ok := b.Next(reserved); return fmt.Sprint(ok) }, "false"},
	}
	for i, s := range steps {
		if have := s.do(); have != s.want {
			t.Fatalf("step %d: have %s\nwant %s", i, have, s.want)
		}
	}
}

func TestFromRefuses(t *testing.T) {
	good := func() api.IPAMBlockSpec {
		b := mustNew(t, "10.0.0.0/30")
		b.Assign(2, block.Holder{Handle: "h", Attrs: map[string]string{"pod": "p"}}, nil)
		return b.Spec()
	}
	if _, err := block.From(good()); err != nil {
		t.Fatal(err)
	}
	nine := 9
	for name, c := range map[string]struct {
		spoil func(*api.IPAMBlockSpec)
		want  string
	}{
		"cidr":          {func(s *api.IPAMBlockSpec) { s.CIDR = "x" }, "spec.cidr"},
		"host bits":     {func(s *api.IPAMBlockSpec) { s.CIDR = "10.0.0.1/30" }, "host bits"},
		"too short":     {func(s *api.IPAMBlockSpec) { s.Allocations = s.Allocations[:3] }, "has 3 entries, want 4"},
		"bad index":     {func(s *api.IPAMBlockSpec) { s.Allocations[0] = &nine }, "allocations[0] is 9"},
		"no handle":     {func(s *api.IPAMBlockSpec) { s.Attributes[0].HandleID = "" }, "handle_id is empty"},
		"free twice":    {func(s *api.IPAMBlockSpec) { s.Unallocated = []int{2, 2} }, "lists 2 twice"},
		"free and held": {func(s *api.IPAMBlockSpec) { s.Unallocated = []int{2, 3, 0} }, "lists 0, which"},
		"beyond":        {func(s *api.IPAMBlockSpec) { s.Unallocated = []int{2, 4} }, "is 4, outside"},
		"negative":      {func(s *api.IPAMBlockSpec) { s.Unallocated = []int{2, -1} }, "is -1, outside"},
		"neither":       {func(s *api.IPAMBlockSpec) { s.Unallocated = []int{2} }, "lacks addresses"},
		"sequence":      {func(s *api.IPAMBlockSpec) { s.SequenceNumberForAllocation["0"] = 99 }, "beyond spec.sequenceNumber 2"},
		"sequence free": {func(s *api.IPAMBlockSpec) { s.SequenceNumberForAllocation["3"] = 1 }, "names no held address"},
		"sequence key":  {func(s *api.IPAMBlockSpec) { s.SequenceNumberForAllocation["01"] = 1 }, "names no held address"},
	} {
		s := good()
		c.spoil(&s)
		if _, err := block.From(s); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: have error %v, want one with %q", name, err, c.want)
		}
	}
}

// TestStoredForm pins the JSON, which is Calico's.
func TestStoredForm(t *testing.T) {
	b := mustNew(t, "10.0.0.0/30")
	attrs := map[string]string{"pod": "p", "node": "a"}
	b.Assign(2, block.Holder{Handle: "h", Attrs: attrs}, nil)
	b.Assign(1, block.Holder{Handle: "g"}, nil)
	attrs["pod"] = "changed by the caller"
	have, err := json.Marshal(b.Spec())
	if err != nil {
		t.Fatal(err)
	}
	want := `{"cidr":"10.0.0.0/30","affinity":"host:a","allocations":[0,0,1,null],"unallocated":[3],` +
		`"attributes":[{"handle_id":"h","secondary":{"node":"a","pod":"p"}},{"handle_id":"g"}],` +
		`"sequenceNumber":3,"sequenceNumberForAllocation":{"0":1,"1":2,"2":3}}`
	if diff := cmp.Diff(want, string(have)); diff != "" {
		t.Error(diff)
	}
}

func TestSpecIsIndependent(t *testing.T) {
	b := mustNew(t, "10.0.0.0/30")
	b.Assign(1, block.Holder{Handle: "h", Attrs: map[string]string{"pod": "p"}}, nil)
	s := b.Spec()
	s.Unallocated[0], s.Attributes[0].ActiveOwnerAttrs["pod"], *s.Affinity = 0, "q", "host:b"
	c, err := block.From(b.Spec())
	if err != nil || !b.Equal(c) || b.Affinity() != "host:a" {
		t.Errorf("changing a Spec changed its block: %v", err)
	}
}

// TestWalk holds a block against the simplest model: a list of free addresses and a map of holders.
func TestWalk(t *testing.T) {
	for _, cidr := range []string{"10.0.0.0/28", "fd00::20/124", "10.0.0.7/32"} {
		for seed := range uint64(20) {
			walk(t, cidr, seed)
		}
	}
}

func walk(t *testing.T, cidr string, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	b := mustNew(t, cidr)
	p := netip.MustParsePrefix(cidr)
	var free []netip.Addr
	for a := p.Addr(); p.Contains(a); a = a.Next() {
		free = append(free, a)
	}
	all, held := slices.Clone(free), map[netip.Addr]string{}
	take := func(a netip.Addr, h string) {
		free = slices.DeleteFunc(free, func(x netip.Addr) bool { return x == a })
		held[a] = h
	}
	for step := range 300 {
		h := fmt.Sprint("h", r.IntN(6))
		a := all[r.IntN(len(all))]
		switch r.IntN(5) {
		case 0:
			reserved := func(x netip.Addr) bool { return x == a }
			for _, got := range b.Assign(r.IntN(3), block.Holder{Handle: h}, reserved) {
				want := free[0]
				if want == a {
					want = free[1]
				}
				if got != want {
					t.Fatalf("%s seed %d step %d: assigned %s, want %s", cidr, seed, step, got, want)
				}
				take(got, h)
			}
		case 1:
			_, taken := held[a]
			if err := b.AssignAddr(a, block.Holder{Handle: h}); errors.Is(err, block.ErrTaken) != taken {
				t.Fatalf("%s seed %d step %d: assign %s: %v", cidr, seed, step, a, err)
			}
			if !taken {
				take(a, h)
			}
		case 2:
			b.ReleaseByHandle(h, time.Time{})
			for _, x := range all {
				if held[x] == h {
					delete(held, x)
					free = append(free, x)
				}
			}
		case 3:
			if err := b.Hold(a, block.Holder{Handle: h}); err != nil {
				t.Fatal(err)
			}
			take(a, h)
		case 4:
			c, err := block.From(b.Spec())
			if err != nil || !c.Equal(b) || c.Sequence() != b.Sequence() {
				t.Fatalf("%s seed %d step %d: round trip: %v", cidr, seed, step, err)
			}
			b = c
		}
		have := map[netip.Addr]string{}
		for x, al := range b.All() {
			have[x] = al.Handle
		}
		if diff := cmp.Diff(held, have, cmp.Comparer(func(x, y netip.Addr) bool { return x == y })); diff != "" {
			t.Fatalf("%s seed %d step %d: %s", cidr, seed, step, diff)
		}
		if next, ok := b.Next(nil); ok != (len(free) > 0) || ok && next != free[0] {
			t.Fatalf("%s seed %d step %d: next is %s, want %v", cidr, seed, step, next, free)
		}
	}
}
