// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"korat/api"
	"korat/test/lab"
	"korat/test/probe"
	"korat/test/scenario"
)

// deadline is how long a change may take to be in both hosts' kernels.
const deadline = 20 * time.Second

// answers bounds the time for one table. A flow that must pass has time for a second SYN; one that must not is given what
// a busy machine may take to answer.
func answers() probe.Patience {
	return probe.Patience{Expected: 2500 * time.Millisecond, Others: 250 * time.Millisecond}
}

// Every scenario, for both families at once unless its manifests have addresses; and with the other backend of iptables,
// to which the agents change meanwhile, those that need something of its own in the kernel.
func TestScenarios(t *testing.T) {
	all, err := scenario.All()
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	w.holds(t, open(), api.Families())
	for _, s := range all {
		t.Run(s.Name, func(t *testing.T) { w.all(t, s) })
	}
	w.legacy(t)
	for _, name := range varied() {
		i := slices.IndexFunc(all, func(s scenario.Scenario) bool { return s.Name == name })
		if i < 0 {
			t.Fatalf("there is no scenario %s", name)
		}
		t.Run("legacy/"+name, func(t *testing.T) { w.all(t, all[i]) })
	}
	w.holds(t, open(), api.Families())
}

// open is the table without policies.
func open() scenario.Table {
	t := scenario.Table{}
	for _, f := range scenario.Flows() {
		t[f] = true
	}
	return t
}

// varied names scenarios with matches and sets of every kind.
func varied() []string {
	return []string{
		"deny-both", "egress-cidr-exceptions", "everything-at-once", "host-to-pods", "ingress-blocks", "many-policies", "many-ports",
		"named-port-of-each", "namespace-label-added", "port-of-each-protocol", "three-tiers",
	}
}

// legacy makes the agents use the other backend, which they do without one that is named only if others do.
func (w *world) legacy(t *testing.T) {
	t.Helper()
	const config = "apiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata: {name: default}\nspec: {iptablesBackend: Legacy}\n"
	if err := w.koratctl(limit(t), config, "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	for _, h := range w.Hosts() {
		err := lab.Until(limit(t), h.Name+" has changed to the legacy backend", func(ctx context.Context) error {
			for _, program := range []string{"iptables", "ip6tables"} {
				for backend, want := range map[string]bool{"nft": false, "legacy": true} {
					out, err := h.Exec(ctx, program+"-"+backend+"-save")
					if err == nil && strings.Contains(out, "cali-FORWARD") != want {
						err = fmt.Errorf("%s-%s-save: %s", program, backend, out)
					}
					if err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// all does a scenario for the families.
func (w *world) all(t *testing.T, s scenario.Scenario) {
	if !s.Addressed() {
		w.run(t, s, api.Families())
		return
	}
	for _, f := range api.Families() {
		t.Run(f.String(), func(t *testing.T) { w.run(t, s, []api.Family{f}) })
	}
}

// run does a scenario and undoes it.
func (w *world) run(t *testing.T, s scenario.Scenario, families []api.Family) {
	state := scenario.NewState()
	defer func() {
		for _, a := range state.Undo() {
			if err := w.do(context.Background(), a); err != nil {
				t.Error(err)
			}
		}
	}()
	for i, step := range s.Steps {
		for _, a := range step.Actions {
			a, err := a.Of(families[0])
			if err != nil {
				t.Fatal(err)
			}
			if err := state.Do(a); err != nil {
				t.Fatal(err)
			}
			if err := w.do(limit(t), a); err != nil {
				t.Fatal(err)
			}
		}
		if !w.holds(t, step.Want, families) {
			t.Fatalf("step %d", i)
		}
	}
}

// holds waits until every flow is as wanted, and looks once more.
func (w *world) holds(t *testing.T, want scenario.Table, families []api.Family) bool {
	t.Helper()
	began := time.Now()
	var have tables
	for asked := 1; ; asked++ {
		have = w.ask(t, want, families)
		settled := time.Since(began)
		if have.diff(want) == "" {
			t.Logf("well after %s and %d tables", settled.Round(time.Millisecond), asked)
			break
		}
		if settled > deadline {
			t.Errorf("after %s:\n%s", settled, have.diff(want))
			w.reason(t, want, have)
			return false
		}
	}
	if have = w.ask(t, want, families); have.diff(want) != "" {
		t.Errorf("all was well, and then:\n%s", have.diff(want))
		w.reason(t, want, have)
		return false
	}
	return true
}

// tables are those of each family.
type tables map[api.Family]scenario.Table

// diff is empty if all are as wanted.
func (have tables) diff(want scenario.Table) string {
	var b strings.Builder
	for _, family := range api.Families() {
		if table := have[family]; table != nil {
			if diff := want.Diff(table); diff != "" {
				b.WriteString(family.String() + " " + diff)
			}
		}
	}
	return b.String()
}

// ask asks for every flow of the families.
func (w *world) ask(t *testing.T, want scenario.Table, families []api.Family) tables {
	t.Helper()
	var questions []*probe.Question
	for _, family := range families {
		for _, f := range scenario.Flows() {
			questions = append(questions, &probe.Question{
				From: w.places[f.From], To: netip.AddrPortFrom(f.To.Address(family), f.Port),
				Protocol: probe.Protocol(f.Protocol), Expected: want[f],
			})
		}
	}
	if err := probe.Ask(questions, answers()); err != nil {
		t.Fatal(err)
	}
	have := tables{}
	for _, family := range families {
		have[family] = scenario.Table{}
		for _, f := range scenario.Flows() {
			have[family][f], questions = questions[0].Reached, questions[1:]
		}
	}
	return have
}

// reason logs what koratctl says of the first flow that is not as wanted, and the kernel's chains.
func (w *world) reason(t *testing.T, want scenario.Table, have tables) {
	t.Helper()
	for family, table := range have {
		f, wrong := want.Wrong(table)
		if !wrong {
			continue
		}
		end := func(p scenario.Place) string { return strings.TrimPrefix(string(p), "host/") }
		explain := fmt.Sprintf("koratctl explain --from %s --to %s --proto %s --port %d", end(f.From), end(f.To), strings.ToLower(f.Protocol), f.Port)
		save := "iptables-save"
		if family == api.IPv6 {
			explain, save = explain+" --ipv6", "ip6tables-save"
		}
		w.show(t, explain, save, "ipset save")
	}
}
