// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"korat/api"
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

// Every scenario, for both families at once unless its manifests have addresses.
func TestScenarios(t *testing.T) {
	all, err := scenario.All()
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	open := scenario.Table{}
	for _, f := range scenario.Flows() {
		open[f] = true
	}
	w.holds(t, open, api.Families())
	for _, s := range all {
		t.Run(s.Name, func(t *testing.T) {
			if !s.Addressed() {
				w.run(t, s, api.Families())
				return
			}
			for _, f := range api.Families() {
				t.Run(f.String(), func(t *testing.T) { w.run(t, s, []api.Family{f}) })
			}
		})
	}
	w.holds(t, open, api.Families())
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
	tables := 0
	diff := "nothing has been asked"
	for diff != "" && time.Since(began) < deadline {
		diff = w.compare(t, want, families)
		tables++
	}
	if diff != "" {
		t.Errorf("after %s:\n%s", deadline, diff)
		return false
	}
	settled := time.Since(began)
	if diff := w.compare(t, want, families); diff != "" {
		t.Errorf("all was well after %s, and then:\n%s", settled, diff)
		return false
	}
	t.Logf("well after %s and %d tables, and again after %s", settled.Round(time.Millisecond), tables, time.Since(began).Round(time.Millisecond))
	return true
}

// compare asks for the whole table of each family, and is empty if all is as wanted.
func (w *world) compare(t *testing.T, want scenario.Table, families []api.Family) string {
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
	var diffs strings.Builder
	for _, family := range families {
		have := scenario.Table{}
		for _, f := range scenario.Flows() {
			have[f], questions = questions[0].Reached, questions[1:]
		}
		if diff := want.Diff(have); diff != "" {
			diffs.WriteString(family.String() + " " + diff)
		}
	}
	return diffs.String()
}
