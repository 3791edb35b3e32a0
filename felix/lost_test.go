// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"net/netip"
	"strings"
	"sync"
	"testing"

	"korat/api"
	"korat/cni-plugin/socket"
	"korat/felix/endpoint"
)

// attachedBefore attaches pod web, which has a policy, and stops the agent once the datastore knows both.
func (w *testWorld) attachedBefore() endpoint.Endpoint {
	w.t.Helper()
	w.plant(webPolicy)
	n := w.start()
	ep := n.attachAs("web", "web")
	w.alias(ep)
	w.published(1)
	w.mirrored(ep)
	n.stop()
	return ep
}

// withLostLabels attaches pod web, and loses its record and what the datastore has of it while no agent runs.
func (w *testWorld) withLostLabels() (endpoint.Endpoint, api.Object) {
	w.t.Helper()
	ep := w.attachedBefore()
	w.dir = w.t.TempDir()
	stored := w.list(api.KindWorkloadEndpoint)[0]
	if err := w.store.Delete(w.t.Context(), stored.Key(), ""); err != nil {
		w.t.Fatal(err)
	}
	return ep, stored
}

func (n *node) told(problem string) bool {
	return strings.Contains(strings.Join(n.status().Problems, "\n"), problem)
}

// A pod of which nobody knows the labels any more may be one that policies are for: it is closed, not open. The next
// start does not take it for one without labels either.
func TestLostLabelsOpenNothing(t *testing.T) {
	w := newWorld(t)
	ep, stored := w.withLostLabels()
	var n *node
	for range 2 {
		n = w.start()
		n.untilReady()
		w.until("the status names it", func() bool {
			return n.told("pod ns/web: this node's record of it is lost, and the datastore does not have its labels") &&
				n.told("create its WorkloadEndpoint/ns/"+stored.GetName())
		})
		if w.dispatched(ep.Interface) || !w.reached(ep) {
			t.Errorf("want a route and no chain:\n%s\n%s", w.routes.Dump(), w.chains.Dump())
		}
		if err := n.check(ep.ID); err == nil {
			t.Error("CHECK finds nothing wrong")
		}
		n.attach("another") // which is mirrored after it
		w.until("the mirror has been at work", func() bool { return len(w.list(api.KindWorkloadEndpoint)) == 1 })
		if err := n.detach(endpoint.ID{ContainerID: "container-of-another", IfName: "eth0"}); err != nil {
			t.Fatal(err)
		}
		w.until("the mirror has been at work again", func() bool { return len(w.list(api.KindWorkloadEndpoint)) == 0 })
		n.stop()
	}
	n = w.start()
	n.untilReady()
	stored.SetResourceVersion("")
	if _, err := w.store.Create(t.Context(), stored); err != nil {
		t.Fatal(err)
	}
	w.until("it has its policy again", func() bool {
		return w.dispatched(ep.Interface) && strings.Contains(w.chains.Dump(), "cali-pi-np/ns/web") && !n.told("labels")
	})
	if err := n.check(ep.ID); err != nil {
		t.Error(err)
	}
	// The mirror may have taken it for one of nobody, and makes it anew then.
	w.until("the datastore has it", func() bool {
		obj, err := w.store.Get(t.Context(), stored.Key())
		return err == nil && obj.GetLabels()["app"] == "web"
	})
}

// Before the datastore has been read nobody knows that it does not have the labels.
func TestLabelsAreNotLostBeforeInSync(t *testing.T) {
	w := newWorld(t)
	_, _ = w.withLostLabels()
	n := w.startWith(deafStore{w.store}, &sync.WaitGroup{})
	w.until("the datastore is missed", func() bool { return n.told("datastore not in sync") })
	if n.told("labels") {
		t.Errorf("problems %v", n.status().Problems)
	}
}

// The runtime may say once more what is known of the pod, or that it is gone.
func TestLostLabelsAreToldAgain(t *testing.T) {
	w := newWorld(t)
	ep, _ := w.withLostLabels()
	n := w.start()
	n.untilReady()
	r := request(ep.ContainerID, "web")
	r.Traits.Labels = map[string]string{"app": "web"}
	if again, err := n.ask(r); err != nil || again.Traits.Lost {
		t.Errorf("ADD again: %v, %v", again, err)
	}
	w.until("it has its policy again", func() bool { return w.dispatched(ep.Interface) && !n.told("labels") })
	w.mirrored(ep)
	n.stop()
	w = newWorld(t)
	ep, _ = w.withLostLabels()
	n = w.start()
	n.untilReady()
	if reply := n.Handle(t.Context(), socket.Request{Verb: socket.VerbDel, ID: ep.ID}); reply.Error != nil {
		t.Errorf("DEL: %v", reply.Error)
	}
	w.until("nothing is told of labels any more", func() bool { return !n.told("labels") })
}

// What goes on from before the labels were lost is judged as soon as they are known again.
func TestFlowsOfAPodThatIsKnownAgain(t *testing.T) {
	w := newWorld(t)
	ep, stored := w.withLostLabels()
	w.conntrack.open(netip.MustParseAddr("203.0.113.1"), ep.Addresses[0], 80)
	n := w.start()
	n.untilReady()
	w.until("the status names it", func() bool { return n.told("pod ns/web: this node's record of it is lost") })
	w.until("all flows have been judged", func() bool { return !n.Revoker.Standing() })
	stored.SetResourceVersion("")
	if _, err := w.store.Create(t.Context(), stored); err != nil {
		t.Fatal(err)
	}
	w.until("it has its policy again", func() bool { return w.dispatched(ep.Interface) })
	w.until("what its policy forbids is cut", func() bool { return !strings.Contains(w.conntrack.dump(), "mark=0") })
}
