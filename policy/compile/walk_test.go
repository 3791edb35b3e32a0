// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"korat/api"
	"korat/policy"
	"korat/policy/chain"
	"korat/policy/compile"
	"korat/policy/policytest"
)

// seedOf is COMPILE_SEED, or a random seed. It is logged.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("COMPILE_SEED"); text != "" {
		seed = must(strconv.ParseUint(text, 10, 64))
	}
	t.Logf("COMPILE_SEED=%d", seed)
	return seed
}

// TestWalk tells a Compiler of random changes, thousands of them, and wants it to hold what a new one would that is
// told of the outcome alone; the changes that it gives must lead there too. COMPILE_SEED repeats a walk.
func TestWalk(t *testing.T) {
	w := newWalk(seedOf(t))
	for step := range 2000 {
		did := []string{}
		for range 1 + w.IntN(3) {
			did = append(did, pick(w, w.change, w.change, w.regroup)())
		}
		w.follow(w.have.Update())
		w.check(t)
		if step%5 == 0 {
			w.compare(t)
			w.ways(t)
		}
		if t.Failed() {
			t.Fatalf("step %d: %s", step, strings.Join(did, ", "))
		}
	}
	if again := w.have.Update(); !again.Empty() {
		t.Errorf("an update after nothing has changed: %v", again)
	}
}

// walk is a Compiler, what it was told, and what its changes came to.
type walk struct {
	*rand.Rand
	have     *compile.Compiler
	options  compile.Options
	tiers    map[string]policy.Tier
	policies map[policy.ID]*policy.Policy
	profiles map[string]*policy.Profile
	peers    map[string]policy.Item
	locals   map[string]compile.Local
	services map[policy.Service][]policy.Member
	// groups are the link groups that interfaces have, and wishes those that they are to have.
	groups, wishes map[string]uint32
	chains         map[chain.Key]*chain.Chain
	sets           map[policy.SetKey]map[policy.Member]bool
}

func newWalk(seed uint64) *walk {
	r := rand.New(rand.NewPCG(seed, 0))
	o := compile.Options{Families: api.Families(), Groups: r.IntN(4) > 0}
	return &walk{
		Rand: r, have: compile.New(o), options: o,
		tiers: map[string]policy.Tier{}, policies: map[policy.ID]*policy.Policy{}, profiles: map[string]*policy.Profile{},
		peers: map[string]policy.Item{}, locals: map[string]compile.Local{}, services: map[policy.Service][]policy.Member{},
		groups: map[string]uint32{}, wishes: map[string]uint32{},
		chains: map[chain.Key]*chain.Chain{}, sets: map[policy.SetKey]map[policy.Member]bool{},
	}
}

// tell tells a Compiler of all that there is.
func (w *walk) tell(c *compile.Compiler) {
	for _, it := range w.tiers {
		c.SetTier(it)
	}
	for id, l := range w.locals {
		c.SetLocal(id, l)
	}
	for _, p := range w.policies {
		c.SetPolicy(p)
	}
	for id, it := range w.peers {
		c.SetPeer(id, it)
	}
	for _, p := range w.profiles {
		c.SetProfile(p)
	}
	for s, m := range w.services {
		c.SetService(s, m)
	}
	for name, number := range w.groups {
		c.SetGroup(name, number)
	}
}

func (w *walk) compare(t *testing.T) {
	fresh := compile.New(w.options)
	w.tell(fresh)
	fresh.Update()
	want := dump(fresh)
	if diff := cmp.Diff(want, dump(w.have)); diff != "" {
		t.Errorf("have (+) is not what a new Compiler has (-):\n%s", diff)
	}
	if diff := cmp.Diff(policytest.Chains(fresh.Chains(), policytest.Every), policytest.Chains(w.chains, policytest.Every)); diff != "" {
		t.Errorf("the changes lead to other chains (+) than there are (-):\n%s", diff)
	}
	for key := range fresh.Sets() {
		have := slices.SortedFunc(maps.Keys(w.sets[key]), policy.Member.Compare)
		if diff := cmp.Diff(fmt.Sprint(slices.Collect(fresh.Members(key))), fmt.Sprint(have)); diff != "" {
			t.Errorf("the changes lead to other members of %s (+) than there are (-):\n%s", key.Name, diff)
		}
	}
	if n := len(slices.Collect(fresh.Sets())); n != len(w.sets) {
		t.Errorf("the changes lead to %d sets, there are %d", len(w.sets), n)
	}
	for name := range w.interfaces() {
		if have, want := w.have.Group(name), fresh.Group(name); have != want || w.wishes[name] != want {
			t.Errorf("%s is to have group %#x, by the changes %#x; want %#x", name, have, w.wishes[name], want)
		}
	}
	for id := range w.locals {
		have, _ := w.have.Applied(id)
		want, _ := fresh.Applied(id)
		if fmt.Sprint(have) != fmt.Sprint(want) {
			t.Errorf("applied to %s: have %v, want %v", id, have, want)
		}
	}
}

// follow makes the changes to chains and sets of its own.
func (w *walk) follow(changes compile.Changes) {
	for _, name := range changes.Groups {
		w.wishes[name] = w.have.Group(name)
	}
	for _, key := range changes.Chains {
		if now := w.have.Chains()[key]; now != nil {
			w.chains[key] = now
		} else {
			delete(w.chains, key)
		}
	}
	for key, c := range changes.Sets {
		switch {
		case c.Gone:
			delete(w.sets, key)
			continue
		case c.New:
			w.sets[key] = map[policy.Member]bool{}
		}
		for _, m := range c.Removed {
			delete(w.sets[key], m)
		}
		for _, m := range c.Added {
			w.sets[key][m] = true
		}
	}
}

// idle are chains that nothing need lead to.
var idle = regexp.MustCompile(`^cali-(allow|pass|drop-vxlan|drop-ipip|failsafe-.*)$`)

// check holds that all that chains name is there, and nothing else, and that reports can be told.
func (w *walk) check(t *testing.T) {
	used := map[chain.Key]bool{}
	named := map[string]bool{}
	for key, c := range w.have.Chains() {
		if len(key.Name) > chain.MaxName {
			t.Errorf("%s: the name is too long", key)
		}
		for to := range c.Uses {
			target := chain.Key{Family: key.Family, Table: key.Table, Name: to}
			used[target] = true
			if w.have.Chains()[target] == nil {
				t.Errorf("%s leads to %s, which is not there", key, to)
			}
		}
		for _, r := range slices.Concat(c.Rules, c.Last) {
			if r.Action.Verb == chain.Report {
				if _, known := w.have.Rule(r.Action.Text[2:]); !known {
					t.Errorf("%s: nobody knows what %s stands for", key, r)
				}
			}
			for _, cond := range r.Conditions {
				if in, is := cond.(chain.InSet); is {
					named[in.Set] = true
				}
			}
		}
	}
	for key := range w.have.Chains() {
		// An endpoint whose interface is another's, too, or has no name for one, may have a chain for nothing.
		if !key.Own() && !used[key] && !idle.MatchString(key.Name) {
			t.Errorf("nothing leads to %s", key)
		}
	}
	count := 0
	for key := range w.have.Sets() {
		count++
		if !named[key.Name] {
			t.Errorf("no chain names %s", key.Name)
		}
		if len(key.Name) > 31 {
			t.Errorf("%s: the name is too long", key.Name)
		}
	}
	if count != len(named) {
		t.Errorf("chains name %d sets, there are %d", len(named), count)
	}
}
