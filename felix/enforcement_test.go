// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"korat/felix/revocation"
)

// Flows that a policy forbids are cut, those of pods that are gone deleted, and all others stay, over restarts too.
func TestRevocation(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	web, client, other := n.attachAs("web", "web"), n.attachAs("client", "client"), n.attachAs("other", "other")
	n.untilReady()
	address := web.Addresses[0]
	for _, from := range []netip.Addr{client.Addresses[0], other.Addresses[0], netip.MustParseAddr("203.0.113.1")} {
		w.conntrack.open(from, address, 80)
	}
	w.conntrack.open(client.Addresses[0], netip.MustParseAddr("203.0.113.1"), 443)
	all := w.conntrack.dump()

	// While the packet filter can't be written, policies are not in force.
	w.breakChains(errors.New("not now"))
	w.plant(webPolicy)
	w.until("the trouble is told", func() bool { return strings.Contains(strings.Join(n.report.notReady(), "\n"), "not now") })
	if have := w.conntrack.dump(); have != all {
		t.Errorf("cut before the policy is in the kernel:\n%s", have)
	}
	w.breakChains(nil)
	want := func(what string, lines ...string) {
		t.Helper()
		w.until(what, func() bool {
			have := w.conntrack.dump()
			if strings.Count(have, "\n") != len(lines) {
				return false
			}
			for _, line := range lines {
				from, marked := strings.CutSuffix(line, " revoked")
				found := false
				for flow := range strings.Lines(have) {
					found = found || strings.Contains(flow, from) && strings.Contains(flow, "mark=0") != marked
				}
				if !found {
					return false
				}
			}
			return true
		})
	}
	from := func(a netip.Addr) string { return "src=" + a.String() + " dst=" }
	toWeb := from(client.Addresses[0]) + address.String()
	out := from(client.Addresses[0]) + "203.0.113.1"
	// Who is outside may be spoken to, and so may other: what they answer would open the flows anew.
	want("flows are cut", toWeb, out, from(other.Addresses[0])+address.String()+" revoked", "src=203.0.113.1 dst="+address.String()+" revoked")

	n.stop()
	w.conntrack.open(other.Addresses[0], address, 81) // by the chains of somebody else
	n = w.start()
	n.untilReady()
	want("what was forbidden while no agent ran is cut", toWeb, out, from(other.Addresses[0])+address.String()+" revoked",
		from(other.Addresses[0])+address.String()+" sport=40000 dport=81 revoked", "src=203.0.113.1 dst="+address.String()+" revoked")

	if err := n.detach(web.ID); err != nil {
		t.Fatal(err)
	}
	want("flows of a pod that is gone are deleted", out)
	if err := n.detach(client.ID); err != nil {
		t.Fatal(err)
	}
	want("none is left")
}

// TestRevokerIsReady wants no pass of a Revoker that has no more to do and has done nothing that the status shows.
func TestRevokerIsReady(t *testing.T) {
	w := newWorld(t)
	data := stillWith(t, "")
	agent := w.idle(data, nopJournal{})
	w.populate(agent, data, 1)
	// A pass ends with the status. What is cut before that is in it, and calls for no other pass: here it comes after.
	var passing sync.Mutex
	w.conntrack.Reading = func() {
		passing.Lock()
		defer passing.Unlock()
	}
	pass := func() {
		t.Helper()
		passing.Lock()
		defer passing.Unlock()
		mustPass(t, agent)
	}
	agent.Revoker = revocation.New(w.conntrack, agent.Log)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { agent.Revoker.Run(ctx); close(ended) }()
	defer func() { cancel(); <-ended }()
	woken := func() {
		t.Helper()
		select {
		case <-agent.Revoker.Wake():
		case <-time.After(20 * time.Second):
			t.Fatal("what is done is told to nobody")
		}
	}
	after := func(what string, want bool) {
		t.Helper()
		pass()
		woken()
		if agent.revoked() != want {
			t.Errorf("%s: a pass is called for: %t, want %t", what, !want, want)
		}
	}
	after("nothing was found", false)
	w.conntrack.open(netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("10.0.0.0"), 80)
	agent.memos.owed.Affected.All = true
	after("a flow was cut", true)
	agent.memos.owed.Leave(netip.MustParseAddr("10.0.0.77"))
	after("the cut is told, nothing else was found", false)
	agent.memos.owed.Leave(netip.MustParseAddr("10.0.0.77"))
	mustPass(t, agent)
	agent.memos.owed.Leave(netip.MustParseAddr("10.0.0.78"))
	woken()
	if !agent.revoked() {
		t.Error("there is more to do, and no pass is called for")
	}
}
