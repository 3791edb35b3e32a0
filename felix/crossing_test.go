// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"korat/api"
	"korat/felix/dataplane"
	"korat/felix/kernel"
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
	table *reconciletest.Table[chain.Key, *chain.Chain]
	state dataplane.State
}

// newCrossing has a host endpoint with a policy in mangle and one in filter.
func newCrossing(t *testing.T) *crossing {
	c := &crossing{Compiler: compile.New(compile.Options{Families: []api.Family{api.IPv4}}), table: &reconciletest.Table[chain.Key, *chain.Chain]{}}
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
	c.step = newSteps(Tables{Sets: &fakeSets{}, Chains: c.table})[chainsStep]
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
	if len(c.table.Have) != len(c.Chains()) {
		t.Errorf("have %d chains, want %d", len(c.table.Have), len(c.Chains()))
	}
	for key, want := range c.Chains() {
		if have := c.table.Have[key]; have == nil || !have.Equal(want) {
			t.Errorf("%s: have %v, want %v", key, have, want)
		}
	}
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

// TestCrossingFails has a write fail after it was made; the next pass goes on from there, one table after the other.
func TestCrossingFails(t *testing.T) {
	down := errors.New("down")
	c := newCrossing(t)
	c.open()
	c.table.WriteErr = down
	if err := c.pass(t); !errors.Is(err, down) || c.tables() != "mangle" {
		t.Errorf("have %v after writing %q", err, c.tables())
	}
	c.table.WriteErr = nil
	if err := c.pass(t); err != nil || c.tables() != "filter mangle" {
		t.Errorf("have %v after writing %q", err, c.tables())
	}
	c.check(t)
}
