// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"korat/api"
	"korat/felix/dataplane"
	"korat/felix/kernel"
	"korat/felix/reconcile"
	"korat/felix/reconcile/reconciletest"
	"korat/policy"
	"korat/policy/chain"
	"korat/policy/compile"
	"korat/policy/selector"
)

// crossing is a packet filter of which several tables change together.
type crossing struct {
	*compile.Compiler
	step  step
	table *closingTable
	state dataplane.State
	// before is called before each write, if it is not nil.
	before func()
}

// watched tells of writes.
type watched struct{ *crossing }

func (w watched) Read(ctx context.Context) (map[chain.Key]*chain.Chain, error) {
	return w.table.Read(ctx)
}

func (w watched) Write(ctx context.Context, d reconcile.Diff[chain.Key, *chain.Chain]) error {
	if w.before != nil {
		w.before()
	}
	return w.table.Write(ctx, d)
}

// newCrossing has a host endpoint with a policy in mangle and one in filter.
func newCrossing(t *testing.T) *crossing {
	c := &crossing{Compiler: compile.New(compile.Options{Families: []api.Family{api.IPv4}}), table: &closingTable{}}
	everything, err := selector.Parse("all()")
	if err != nil {
		t.Fatal(err)
	}
	for name, stage := range map[string]policy.Stage{"early": policy.PreDNAT, "late": policy.Normal} {
		c.SetPolicy(&policy.Policy{
			ID: policy.ID{Kind: policy.KindGlobal, Name: name}, Tier: policy.TierDefault, Selector: everything, Stage: stage, AppliesIngress: true,
			Ingress: []policy.Rule{{Action: api.Allow, Protocol: policy.TCP}},
		})
	}
	c.SetLocal("eth0", compile.Local{Interface: "eth0", Host: true})
	c.step = newSteps(Tables{Sets: &fakeSets{}, Chains: watched{c}})[chainsStep]
	if err := c.pass(t); err != nil {
		t.Fatal(err)
	}
	return c
}

// pass writes what has changed.
func (c *crossing) pass(t *testing.T) error {
	c.state.Filter = dataplane.Filter{Chains: c.Chains(), ChangedChains: c.Update().Chains}
	c.table.Writes = nil
	_, err := c.step.apply(t.Context(), c.state)
	return err
}

// open has one more port that is always open.
func (c *crossing) open() {
	c.SetOptions(compile.Options{Families: []api.Family{api.IPv4}, FailsafeIn: []compile.Failsafe{{Protocol: policy.TCP, Port: 22}}})
}

// tables gives which ones each write changed.
func (c *crossing) tables() string {
	var all []string
	for _, text := range c.table.Writes {
		var tables []string
		for line := range strings.Lines(text) {
			tables = append(tables, strings.Fields(line)[2])
		}
		slices.Sort(tables)
		all = append(all, strings.Join(slices.Compact(tables), "+"))
	}
	return strings.Join(all, " ")
}

func (c *crossing) check(t *testing.T) {
	t.Helper()
	sameChains(t, c.table.Have, c.Chains())
}

// TestCrossing wants one table after the other to be written, and what is needed in between to be gone at last.
func TestCrossing(t *testing.T) {
	c := newCrossing(t)
	for _, tc := range []struct {
		name   string
		change func()
		want   string
	}{
		{"a failsafe port", c.open, "mangle filter mangle"},
		{"nothing", func() {}, ""},
		{"what nobody told of", func() {
			c.SetOptions(compile.Options{Families: []api.Family{api.IPv4}})
			c.Update()
			c.step.invalidate(kernel.Notice{Lost: true})
		}, "mangle filter mangle"},
		{"a policy of one table", func() { c.DeletePolicy(policy.ID{Kind: policy.KindGlobal, Name: "late"}) }, "filter"},
		{"no endpoint", func() { c.DeleteLocal("eth0") }, "mangle filter mangle filter raw"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.change()
			if err := c.pass(t); err != nil {
				t.Fatal(err)
			}
			if have := c.tables(); have != tc.want {
				t.Errorf("have %q, want %q", have, tc.want)
			}
			c.check(t)
		})
	}
}

// TestCrossingFails has each of the writes fail, as a whole or for one chain: the next pass comes to what is wanted, or to what is
// wanted by then, and at no time does a chain lead to one that is not there.
func TestCrossingFails(t *testing.T) {
	down := errors.New("down")
	root := chain.Key{Family: api.IPv4, Table: chain.Mangle, Name: "cali-from-host-endpoint"}
	for name, fail := range map[string]func(*closingTable){
		"as a whole":    func(table *closingTable) { table.WriteErr = down },
		"for one chain": func(table *closingTable) { table.Bad = map[chain.Key]error{root: down} },
	} {
		for _, later := range []string{"the same", "another"} {
			for writes := range 4 {
				t.Run(fmt.Sprintf("%s after %d, %s", name, writes, later), func(t *testing.T) {
					c := newCrossing(t)
					c.open()
					left := writes
					c.before = func() {
						c.closed(t)
						if left--; left == -1 {
							fail(c.table)
						}
					}
					failed := c.pass(t)
					if (failed != nil) != (writes < 3) && name == "as a whole" || failed != nil && !errors.Is(failed, down) {
						t.Errorf("have %v", failed)
					}
					c.table.WriteErr, c.table.Bad, c.before = nil, nil, nil
					if later == "another" {
						c.DeletePolicy(policy.ID{Kind: policy.KindGlobal, Name: "early"})
					}
					if err := c.pass(t); err != nil {
						t.Errorf("have %v", err)
					}
					c.closed(t)
					c.check(t)
				})
			}
		}
	}
}

// closed wants each chain that one leads to to be there, and no chain to lead to itself.
func (c *crossing) closed(t *testing.T) {
	t.Helper()
	for key, have := range c.table.Have {
		for to := range have.Uses {
			target := key
			target.Name = to
			if target == key || c.table.Have[target] == nil {
				t.Errorf("%s leads to %s: %v", key, to, have)
			}
		}
	}
}

// TestClosedAtOnce has sets lack members: what looks into them is closed in that pass, whatever else changes, and also if all has to be
// read. Nothing is read for a chain that stays closed.
func TestClosedAtOnce(t *testing.T) {
	full := errors.New("full")
	key := func(name string) chain.Key { return chain.Key{Family: api.IPv4, Table: chain.Filter, Name: name} }
	for name, tc := range map[string]struct {
		notice kernel.Notice
		reads  int
	}{"nothing is in doubt": {kernel.Notice{}, 1}, "all is": {kernel.Notice{Lost: true}, 2}} {
		t.Run(name, func(t *testing.T) {
			table := &closingTable{}
			step := newSteps(Tables{Sets: &fakeSets{}, Chains: table})[chainsStep].(*filterStep)
			want := map[chain.Key]*chain.Chain{}
			pass := func(add string) {
				c := &chain.Chain{Rules: []chain.Rule{chain.NewRule("", chain.Action{Verb: chain.Drop}, chain.InSet{Set: add})}}
				want[key(add)] = c
				_, err := step.apply(t.Context(), dataplane.State{Filter: dataplane.Filter{Chains: want, ChangedChains: []chain.Key{key(add)}}})
				if err != nil && !errors.Is(err, full) {
					t.Fatal(err)
				}
			}
			for _, set := range []string{"a", "b"} {
				pass(set)
			}
			step.sets.lacking = map[policy.SetKey]error{setKey("a"): full}
			pass("c")
			step.sets.lacking[setKey("b")] = full
			step.invalidate(tc.notice)
			pass("d")
			if have := table.closed(); have != "a b" {
				t.Errorf("closed are %s", have)
			}
			pass("e")
			if table.Reads != tc.reads {
				t.Errorf("read %d times, want %d", table.Reads, tc.reads)
			}
			step.sets.lacking = nil
			pass("f")
			if have := table.closed(); have != "" {
				t.Errorf("closed are %s", have)
			}
		})
	}
}

// closingTable closes chains that are bad, and those that look into sets that are not as they must be, if it is given them.
type closingTable struct {
	reconciletest.Table[chain.Key, *chain.Chain]
	distrusted map[string]error
}

var closedChain = &chain.Chain{Rules: []chain.Rule{chain.NewRule("closed", chain.Action{Verb: chain.Drop})}}

func (c *closingTable) Distrust(sets map[string]error) {
	c.distrusted, c.Bad = sets, map[chain.Key]error{}
}

func (c *closingTable) Write(ctx context.Context, d reconcile.Diff[chain.Key, *chain.Chain]) error {
	for key, want := range d.Set {
		for set := range want.Sets {
			if err := c.distrusted[set]; err != nil {
				c.Bad[key] = err
			}
		}
	}
	err := c.Table.Write(ctx, d)
	for key := range c.Bad {
		if d.Set[key] != nil {
			c.Have[key] = closedChain
		}
	}
	return err
}

// closed gives the names of those that are.
func (c *closingTable) closed() string {
	var all []string
	for key, have := range c.Have {
		if have == closedChain {
			all = append(all, key.Name)
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}
