// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"korat/api"
	"korat/felix/dataplane"
	"korat/felix/kernel"
	"korat/felix/reconcile"
	"korat/felix/reconcile/reconciletest"
	"korat/policy"
	"korat/policy/chain"
)

func setKey(name string) policy.SetKey { return policy.SetKey{Name: name, Family: api.IPv4} }

// orderly is a packet filter that notes what is written, in its order.
type orderly struct {
	steps  []step
	sets   *fakeSets
	chains *reconciletest.Table[chain.Key, *chain.Chain]
	notes  []string
	state  dataplane.State
	// left is how many writes are done before the agent dies, if dies is set; after each, look looks.
	left int
	dies bool
	look func()
}

var errDead = errors.New("dead")

// write does a write if the agent lives.
func (o *orderly) write(do func() error) error {
	if o.dies && o.left == 0 {
		return errDead
	}
	o.left--
	err := do()
	if o.look != nil {
		o.look()
	}
	return err
}

type notedSets struct{ *orderly }

func (n notedSets) Read(ctx context.Context) (map[policy.SetKey]kernel.Members, error) {
	return n.sets.Read(ctx)
}

func (n notedSets) Write(ctx context.Context, changes []kernel.SetChange) error {
	var lines []string
	for _, c := range changes {
		switch {
		case c.Replace:
			lines = append(lines, fmt.Sprintf("%s = %v", c.Key.Name, c.Add))
		case len(c.Add)+len(c.Remove) > 0:
			lines = append(lines, fmt.Sprintf("%s + %v - %v", c.Key.Name, c.Add, c.Remove))
		}
	}
	slices.Sort(lines)
	n.notes = append(n.notes, lines...)
	return n.write(func() error { return n.sets.Write(ctx, changes) })
}

type notedChains struct{ *orderly }

func (n notedChains) Read(ctx context.Context) (map[chain.Key]*chain.Chain, error) {
	return n.chains.Read(ctx)
}

func (n notedChains) Write(ctx context.Context, d reconcile.Diff[chain.Key, *chain.Chain]) error {
	var lines []string
	for key, c := range d.Set {
		lines = append(lines, fmt.Sprintf("%s looks into %s", key.Name, strings.Join(slices.Collect(c.Sets), " ")))
	}
	slices.Sort(lines)
	n.notes = append(n.notes, lines...)
	return n.write(func() error { return n.chains.Write(ctx, d) })
}

func prefixMember(text string) policy.Member {
	return policy.Member{Prefix: netip.MustParsePrefix(text)}
}

// newOrderly has two chains that look into a set, one of them into another too, and one that looks into none.
func newOrderly(t *testing.T) (*orderly, heldSets) {
	one, two := setKey("cali40s:one"), setKey("cali40s:two")
	o := &orderly{sets: &fakeSets{have: map[policy.SetKey]kernel.Members{}}, chains: &reconciletest.Table[chain.Key, *chain.Chain]{}}
	o.begin()
	held := heldSets{one: {prefixMember("10.0.0.1/32")}, two: {prefixMember("10.0.0.2/32")}}
	o.state.Filter = filterOf(held, nil)
	o.state.Filter.Chains = map[chain.Key]*chain.Chain{}
	for name, sets := range map[string][]string{"cali-a": {one.Name}, "cali-b": {two.Name, one.Name}, "cali-c": nil} {
		c := &chain.Chain{}
		for _, set := range sets {
			c.Rules = append(c.Rules, chain.NewRule("", chain.Action{Verb: chain.Accept}, chain.InSet{Set: set}))
		}
		o.state.Filter.Chains[chain.Key{Family: api.IPv4, Table: chain.Filter, Name: name}] = c
	}
	if err := o.pass(t); err != nil {
		t.Fatal(err)
	}
	o.notes = nil
	return o, held
}

// begin is the start of an agent.
func (o *orderly) begin() {
	o.steps = newSteps(Tables{Sets: notedSets{o}, Chains: notedChains{o}})[setsBefore:linksAt]
}

// pass writes what has changed.
func (o *orderly) pass(t *testing.T) error {
	var errs []error
	for _, s := range o.steps {
		_, err := s.apply(t.Context(), o.state)
		errs = append(errs, err)
	}
	o.state.Filter.ChangedChains, o.state.Filter.ChangedSets = nil, nil
	return errors.Join(errs...)
}

// TestOrder has sets change before chains, after them, and with them.
func TestOrder(t *testing.T) {
	o, held := newOrderly(t)
	one, two := setKey("cali40s:one"), setKey("cali40s:two")
	for _, tc := range []struct {
		order policy.SetOrder
		want  string
	}{
		{policy.AddedFirst, `cali40s:one + [10.0.0.3/32] - []
cali-c looks into cali40s:two
cali40s:one + [] - [10.0.0.1/32]`},
		{policy.RemovedFirst, `cali40s:one + [] - [10.0.0.1/32]
cali-c looks into cali40s:two
cali40s:one + [10.0.0.3/32] - []`},
		{policy.AtOnce, `cali40S:one = [10.0.0.3/32]
cali-a looks into cali40S:one
cali-b looks into cali40s:two cali40S:one
cali-c looks into cali40s:two
cali40s:one + [10.0.0.3/32] - [10.0.0.1/32]
cali-a looks into cali40s:one
cali-b looks into cali40s:two cali40s:one`},
	} {
		held[one] = []policy.Member{prefixMember("10.0.0.1/32")}
		o.steps[0].invalidate(kernel.Everything())
		c := chain.Key{Family: api.IPv4, Table: chain.Filter, Name: "cali-c"}
		o.state.Filter.Chains[c] = &chain.Chain{}
		o.state.Filter.ChangedChains = []chain.Key{c}
		if err := o.pass(t); err != nil {
			t.Fatal(err)
		}
		o.notes = nil

		held[one] = []policy.Member{prefixMember("10.0.0.3/32")}
		o.state.Filter.Chains[c] = &chain.Chain{Rules: []chain.Rule{chain.NewRule("", chain.Action{Verb: chain.Drop}, chain.InSet{Set: two.Name})}}
		o.state.Filter.ChangedChains = []chain.Key{c}
		o.state.Filter.ChangedSets = map[policy.SetKey]setChange{one: {
			Added: []policy.Member{prefixMember("10.0.0.3/32")}, Removed: []policy.Member{prefixMember("10.0.0.1/32")}, Order: tc.order,
		}}
		if err := o.pass(t); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tc.want, strings.Join(o.notes, "\n")); diff != "" {
			t.Errorf("order %d: %s", tc.order, diff)
		}
	}
}

// TestOrderFails has something fail on the way: no set changes while chains look into it as it was, and the next pass
// comes to what is wanted.
func TestOrderFails(t *testing.T) {
	down, one := errors.New("down"), setKey("cali40s:one")
	for name, tc := range map[string]struct {
		breaks func(*orderly)
		mends  func(*orderly)
		// changed says that the set itself may have changed.
		changed bool
	}{
		"the copy can't be made": {
			func(o *orderly) { o.sets.bad = map[policy.SetKey]error{one.Copy(): down} },
			func(o *orderly) { o.sets.bad = nil }, true,
		},
		"no set can be written": {
			func(o *orderly) { o.sets.broken = down }, func(o *orderly) { o.sets.broken = nil }, false,
		},
		"no chain can be written": {
			func(o *orderly) { o.chains.WriteErr = down }, func(o *orderly) { o.chains.WriteErr = nil }, false,
		},
		"the set can't be changed": {
			func(o *orderly) { o.sets.bad = map[policy.SetKey]error{one: down} },
			func(o *orderly) { o.sets.bad = nil }, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			o, held := newOrderly(t)
			held[one] = []policy.Member{prefixMember("10.0.0.3/32")}
			o.state.Filter.ChangedSets = map[policy.SetKey]setChange{one: {
				Added: held[one], Removed: []policy.Member{prefixMember("10.0.0.1/32")}, Order: policy.AtOnce,
			}}
			tc.breaks(o)
			if err := o.pass(t); !strings.Contains(fmt.Sprint(err), "down") {
				t.Fatalf("have %v", err)
			}
			if _, changed := o.sets.have[one][held[one][0]]; changed != tc.changed {
				t.Errorf("the set has changed: %v", changed)
			}
			tc.mends(o)
			if err := o.pass(t); err != nil {
				t.Fatal(err)
			}
			want := kernel.Members{held[one][0]: {}}
			if diff := cmp.Diff(want, o.sets.have[one]); diff != "" {
				t.Error(diff)
			}
			sameChains(t, o.chains.Have, o.state.Filter.Chains)
		})
	}
}

// sameChains wants these chains, and no others.
func sameChains(t *testing.T, have, want map[chain.Key]*chain.Chain) {
	t.Helper()
	if len(have) != len(want) {
		t.Errorf("have %d chains, want %d", len(have), len(want))
	}
	for key, c := range want {
		if h := have[key]; h == nil || !h.Equal(c) {
			t.Errorf("%s: have %v, want %v", key, h, c)
		}
	}
}

// seen is what chains that look into a set, or into its copy, find there.
func (o *orderly) seen(key policy.SetKey) string {
	var all []string
	for _, c := range o.chains.Have {
		for name := range c.Sets {
			if name == key.Name || name == key.Copy().Name {
				all = append(all, fmt.Sprint(slices.Collect(maps.Keys(o.sets.have[policy.SetKey{Name: name, Family: key.Family}]))))
			}
		}
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), " or ")
}

// TestOrderOverRestarts has the agent die after each write of a set that changes with its chains. The next one finishes what
// was begun; another may want something else again. At no moment do chains find something in between.
func TestOrderOverRestarts(t *testing.T) {
	one := setKey("cali40s:one")
	first, second, third := prefixMember("10.0.0.1/32"), prefixMember("10.0.0.3/32"), prefixMember("10.0.0.4/32")
	for name, later := range map[string]policy.Member{"the same": second, "another": third, "as it was": first} {
		for writes, died := 0, true; died; writes++ {
			o, held := newOrderly(t)
			o.look = func() {
				if have := o.seen(one); have != fmt.Sprint([]policy.Member{first}) && have != fmt.Sprint([]policy.Member{second}) && have != fmt.Sprint([]policy.Member{later}) {
					t.Errorf("%s, %d writes: chains find %s\n%s", name, writes, have, strings.Join(o.notes, "\n"))
				}
			}
			o.dies, o.left = true, writes
			held[one] = []policy.Member{second}
			o.state.Filter.ChangedSets = map[policy.SetKey]setChange{one: {
				Added: []policy.Member{second}, Removed: []policy.Member{first}, Order: policy.AtOnce,
			}}
			died = errors.Is(o.pass(t), errDead)
			o.dies = false
			held[one] = []policy.Member{later}
			o.begin()
			if err := o.pass(t); err != nil {
				t.Fatal(err)
			}
			if have := o.seen(one); have != fmt.Sprint([]policy.Member{later}) || len(o.sets.have[one]) != 1 {
				t.Errorf("%s, %d writes: at the end chains find %s, the set has %v", name, writes, have, o.sets.have[one])
			}
			sameChains(t, o.chains.Have, o.state.Filter.Chains)
			if t.Failed() {
				t.Fatalf("%s, %d writes", name, writes)
			}
		}
	}
}
