// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"korat/api"
)

func problems(a *Allocator) string {
	var lines []string
	for _, err := range a.Problems() {
		lines = append(lines, err.Error())
	}
	return strings.Join(lines, "\n")
}

// TestLostBlocks: addresses in use whose blocks the datastore does not have as ours, as after it was restored
// from an old backup.
func TestLostBlocks(t *testing.T) {
	off := pool("off", "10.9.0.0/16", 30)
	off.Spec.Disabled = true
	s := own(t, synced(off, pool("p", "10.0.0.0/16", 30), pool("q", "10.1.0.0/16", 28)), "a", "10.0.0.0/30", "")
	s = own(t, s, "b", "10.0.0.4/30", "")
	s = own(t, s, "b", "10.1.0.16/30", "")
	a := NewAllocator("a", fixed)
	owner := map[string]string{"namespace": "ns", "pod": "web"}
	a.Restore("h", owner, addrs("10.0.0.1", "10.0.0.9", "10.0.0.10", "10.0.0.5", "10.1.0.17", "10.1.0.1", "10.9.0.1", "10.7.0.1"))
	if needs(a) != "" || problems(a) != "" {
		t.Errorf("before the first Snapshot: needs %s, problems %s", needs(a), problems(a))
	}
	a.Update(s)
	if diff := cmp.Diff("10.0.0.8/30 of p, 10.1.0.0/28 of q, 10.9.0.0/30 of off", needs(a)); diff != "" {
		t.Error(diff)
	}
	const who = `is in use by pod ns/web (handle "h"), but `
	wanted := strings.Join([]string{
		"address 10.0.0.5 " + who + `its block 10.0.0.4/30 belongs to node "b": delete the pod`,
		"address 10.1.0.17 " + who + `its block 10.1.0.16/28 can't be claimed, because IPAMBlock/10-1-0-16-30 of node "b" overlaps it: delete the pod`,
		"address 10.7.0.1 " + who + "in no IPPool: create one that has it, or delete the pod",
	}, "\n")
	if diff := cmp.Diff(wanted, problems(a)); diff != "" {
		t.Error(diff)
	}
	for _, cidr := range []string{"10.0.0.8/30", "10.1.0.0/28", "10.9.0.0/30"} {
		s = own(t, s, "a", cidr, "")
	}
	a.Update(s)
	if diff := cmp.Diff("10.0.0.1=h 10.0.0.9=h 10.0.0.10=h 10.1.0.1=h 10.9.0.1=h", show(a)); diff != "" || needs(a) != "" {
		t.Errorf("claimed: needs %s, %s", needs(a), diff)
	}
}

// TestLostBlockIsClaimed: the keeper claims exactly the block that was lost, and writes its content.
func TestLostBlockIsClaimed(t *testing.T) {
	st := filled(t, pool("p", "10.0.0.0/16", 30))
	k, a := NewKeeper(st, "a", quiet()), NewAllocator("a", fixed)
	a.Restore("h", nil, addrs("10.0.8.9"))
	for range 3 {
		a.Update(picture(t, st))
		k.Want(a.Wants())
		if _, err := k.pass(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if have := owners(t, st); have != "10.0.8.8/30=a a:confirmed" {
		t.Errorf("have %s", have)
	}
	if have := stored(t, st, "10.0.8.8/30"); have != "10.0.8.9=h" {
		t.Errorf("stored %s", have)
	}
	for obj := range picture(t, st).Objects(api.KindBlockAffinity) { // only the affinity is lost
		if err := st.Delete(t.Context(), obj.Key(), ""); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		a.Update(picture(t, st))
		k.Want(a.Wants())
		if _, err := k.pass(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if have := owners(t, st); have != "10.0.8.8/30=a a:confirmed" {
		t.Errorf("affinity lost: have %s", have)
	}
}
