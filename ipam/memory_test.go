// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"korat/api"
)

// TestRestoreWins: the CNI record counts, not the datastore's copy.
func TestRestoreWins(t *testing.T) {
	s := own(t, synced(pool("p", "10.0.0.0/16", 29)), "a", "10.0.0.0/29", "10.0.0.0=same 10.0.0.1=old 10.0.0.2=moved 10.0.0.3=orphan 10.0.0.4=gone")
	a := NewAllocator("a", fixed)
	a.Restore("same", nil, addrs("10.0.0.0"))
	a.Restore("new", nil, addrs("10.0.0.1"))
	a.Restore("moved", nil, addrs("10.0.0.5", "10.8.8.8"))
	a.Restore("gone", nil, addrs("10.0.0.4"))
	a.Release("gone") // a DEL before the datastore is known
	a.Release("unknown")
	a.Update(s)
	if diff := cmp.Diff("10.0.0.0=same 10.0.0.1=new 10.0.0.2=moved 10.0.0.3=orphan 10.0.0.5=moved", show(a)); diff != "" {
		t.Error(diff)
	}
	var orphans []string
	for _, o := range a.Orphans() {
		orphans = append(orphans, fmt.Sprint(o.Address, " ", o.Handle, " ", o.Attrs["pod"]))
	}
	if diff := cmp.Diff("10.0.0.2 moved pod-moved\n10.0.0.3 orphan pod-orphan", strings.Join(orphans, "\n")); diff != "" {
		t.Error(diff)
	}
	for _, wanted := range []string{"10.0.0.6", "10.0.0.7", "10.0.0.4"} {
		if have := ask(a, auto("x"+wanted)); have != wanted {
			t.Errorf("have %s, want %s", have, wanted)
		}
	}
}

func TestOrphans(t *testing.T) {
	s := own(t, synced(pool("p", "10.0.0.0/16", 29)), "a", "10.0.0.0/29", "10.0.0.0=w 10.0.0.1=x 10.0.0.2=y 10.0.0.3=z 10.0.0.4=z")
	a := node(s)
	all := a.Orphans()
	if have := ask(a, auto("w")); have != "10.0.0.0" {
		t.Errorf("a runtime that asks again got %s", have)
	}
	a.Restore("x", nil, addrs("10.0.0.1"))
	a.Release("y")
	ask(a, want("new", "10.0.0.2"))
	a.Release("new")
	err := a.ReleaseOrphans(all...)
	for _, why := range []string{`10.0.0.0: it is in use by handle "w"`, `10.0.0.1: it is in use by handle "x"`, "10.0.0.2: assignment has changed meanwhile"} {
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("have %v, want %s", err, why)
		}
	}
	if have := show(a); have != "10.0.0.0=w 10.0.0.1=x" {
		t.Errorf("have %s", have)
	}
	if err := a.ReleaseOrphans(Orphan{Address: addrs("10.1.1.1")[0]}); err == nil {
		t.Error("an address of nobody's block was released")
	}
}

// TestLaggingCopy: whatever older copy of an own block a Snapshot brings, memory stays.
func TestLaggingCopy(t *testing.T) {
	s := own(t, synced(pool("p", "10.0.0.0/16", 30)), "a", "10.0.0.0/30", "10.0.0.0=h")
	first, _ := s.IPAMBlocks.Get("10-0-0-0-30")
	a := node(s)
	a.Restore("h", nil, addrs("10.0.0.0"))
	ask(a, auto("i"))
	ask(a, auto("j"))
	newer := first.DeepCopy()
	newer.Spec = a.Changes()[0].Want.Spec()
	a.Release("h")
	a.Release("i")
	for _, copied := range []*api.IPAMBlock{first.DeepCopy(), newer, first.DeepCopy()} {
		a.Update(s.With(copied))
		if have := show(a); have != "10.0.0.2=j" {
			t.Fatalf("have %s", have)
		}
	}
	gone := s.Without(first.Key()) // the block's object vanishes and comes back, lagging
	for _, s := range []api.Snapshot{gone, s.With(first.DeepCopy()), s.Without(affinity("a", "10.0.0.0/30", "").Key()), s} {
		a.Update(s)
	}
	if have := show(a); have != "10.0.0.2=j" || len(a.Orphans()) > 0 {
		t.Errorf("came back with %s", have)
	}
	a.Update(gone)
	if have := ask(a, auto("k")); !strings.Contains(have, "no address yet") {
		t.Errorf("assigned %s from a lost block", have)
	}
	a.Release("j")
	anew := first.DeepCopy() // deleted and made anew: no longer the object that we remember
	anew.UID = "another"
	a.Update(s.With(anew))
	if have := show(a); have != "10.0.0.0=h" {
		t.Errorf("made anew: have %s", have)
	}
}

// TestBlockMadeAnew: pods keep their addresses when the block's object is deleted and made anew empty.
func TestBlockMadeAnew(t *testing.T) {
	s := own(t, synced(pool("p", "10.0.0.0/16", 30)), "a", "10.0.0.0/30", "10.0.0.3=orphan")
	a := node(s)
	ask(a, auto("h"))
	empty := ipamBlock(t, "a", "10.0.0.0/30", "")
	empty.UID = "another"
	a.Update(s.With(empty))
	if have := show(a); have != "10.0.0.0=h 10.0.0.3=orphan" {
		t.Errorf("have %s", have)
	}
	if c := a.Changes(); len(c) != 1 || c[0].UID != "another" {
		t.Errorf("changes %v", c)
	}
}

func TestChanges(t *testing.T) {
	s := own(t, synced(pool("p", "10.0.0.0/16", 30)), "a", "10.0.0.0/30", "")
	a := node(s)
	if c := a.Changes(); len(c) > 0 {
		t.Fatalf("nothing has changed: %v", c)
	}
	if _, err := a.Assign(Request{Handle: "k8s.1.eth0", Attrs: map[string]string{"namespace": "ns", "pod": "web"}}); err != nil {
		t.Fatal(err)
	}
	c := a.Changes()
	have, err := json.Marshal(c[0].Want.Spec())
	if err != nil {
		t.Fatal(err)
	}
	wanted := `{"cidr":"10.0.0.0/30","affinity":"host:a","allocations":[0,null,null,null],"unallocated":[1,2,3],` +
		`"attributes":[{"handle_id":"k8s.1.eth0","secondary":{"namespace":"ns","node":"a","pod":"web","timestamp":"2026-03-01T12:00:00Z"}}],` +
		`"sequenceNumber":1,"sequenceNumberForAllocation":{"0":1}}`
	if diff := cmp.Diff(wanted, string(have)); diff != "" {
		t.Error(diff)
	}
	stored := ipamBlock(t, "a", "10.0.0.0/30", "")
	stored.Spec = c[0].Want.Spec()
	stored.Spec.SequenceNumber = 70
	a.Update(s.With(stored))
	if c := a.Changes(); len(c) > 0 {
		t.Errorf("written, and still to be changed: %v", c)
	}
	a.Release("k8s.1.eth0")
	if c := a.Changes(); len(c) != 1 || c[0].Want.Sequence() != 71 {
		t.Errorf("after the release: %v, want number 71", c)
	}
	again := NewAllocator("a", fixed)
	again.Restore("k8s.1.eth0", map[string]string{"namespace": "ns", "pod": "web"}, addrs("10.0.0.0"))
	again.Update(s.With(stored))
	if c := again.Changes(); len(c) > 0 {
		t.Errorf("an unchanged restart wants to write %v", c)
	}
}

// TestTwoHandlesOneAddress: a record that contradicts itself frees nothing before both are gone.
func TestTwoHandlesOneAddress(t *testing.T) {
	a := node(own(t, synced(pool("p", "10.0.0.0/16", 31)), "a", "10.0.0.0/31", ""))
	a.Restore("h", nil, addrs("10.0.0.0"))
	a.Restore("i", nil, addrs("10.0.0.0"))
	if p := a.Problems(); len(p) != 1 || !strings.Contains(p[0].Error(), "10.0.0.0 is in use by several handles: h, i") {
		t.Errorf("have %v", p)
	}
	if freed := a.Release("h"); len(freed) > 0 || show(a) != "10.0.0.0=i" {
		t.Errorf("freed %v, left %s", freed, show(a))
	}
	if freed := a.Release("i"); len(freed) != 1 || show(a) != "" {
		t.Errorf("freed %v, left %s", freed, show(a))
	}
}
