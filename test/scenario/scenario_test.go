// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"testing"

	"korat/api"
	"korat/policy"
	"korat/policy/explain"
)

// What the scenarios want, policy/explain says too, of each family.
func TestExplain(t *testing.T) {
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 60 {
		t.Errorf("%d scenarios", len(all))
	}
	for _, s := range all {
		for _, f := range api.Families() {
			t.Run(s.Name+"/"+f.String(), func(t *testing.T) { explained(t, s, f) })
		}
	}
}

func explained(t *testing.T, s Scenario, f api.Family) {
	state := NewState()
	for i, step := range s.Steps {
		for _, a := range step.Actions {
			if a, err := a.Of(f); err != nil {
				t.Fatalf("step %d: %v", i, err)
			} else if err := state.Do(a); err != nil {
				t.Fatalf("step %d: %v", i, err)
			}
		}
		world, err := explain.Of(state.Snapshot())
		if err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		if diff := step.Want.Diff(verdicts(world, f)); diff != "" {
			t.Errorf("step %d: explain says otherwise:\n%s", i, diff)
		}
	}
	// What a scenario leaves behind is undone by actions of its own kind.
	for _, a := range state.Undo() {
		if err := state.Do(a); err != nil {
			t.Error(err)
		}
	}
	if left := state.Undo(); len(left) > 0 {
		t.Errorf("still to be undone: %v", left)
	}
}

func verdicts(world *explain.World, f api.Family) Table {
	numbers := map[string]policy.Protocol{"TCP": policy.TCP, "UDP": policy.UDP, "SCTP": policy.SCTP}
	t := Table{}
	for _, flow := range Flows() {
		t[flow] = world.Allowed(explain.Flow{
			From: world.Resolve(flow.From.Address(f)), To: world.Resolve(flow.To.Address(f)),
			Protocol: numbers[flow.Protocol], SourcePort: 40000, DestinationPort: flow.Port,
		})
	}
	return t
}
