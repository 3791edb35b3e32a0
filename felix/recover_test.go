// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"korat/api"
	"korat/cni-plugin/socket"
	"korat/felix/endpoint"
)

// published waits until the datastore's blocks hold n addresses in use.
func (w *testWorld) published(n int) {
	w.t.Helper()
	w.until("the datastore shows the addresses in use", func() bool {
		objs, _, err := w.store.List(w.t.Context(), api.KindIPAMBlock)
		if err != nil {
			w.t.Fatal(err)
		}
		used := 0
		for _, o := range objs {
			spec := o.(*api.IPAMBlock).Spec
			for _, a := range spec.Allocations {
				if a != nil && spec.Attributes[*a].ReleasedAt == nil {
					used++
				}
			}
		}
		return used == n
	})
}

func TestRebootFreesAddresses(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	ep := n.attach("web")
	w.published(1)
	n.stop()
	w.dir = t.TempDir() // tmpfs is empty after a reboot
	w.kernel.removeLink(ep.Interface)
	w.routes.Have, w.neighbours.Have = nil, nil
	n = w.start()
	n.untilReady()
	w.published(0)
}

func TestLostRecordIsRecoveredFromTheKernel(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	ep := n.attach("web")
	w.alias(ep)
	w.published(1)
	w.mirrored(ep)
	n.stop()
	w.writes()
	w.dir = t.TempDir()
	n = w.start()
	n.untilReady()
	if text := w.writes(); text != "" {
		t.Errorf("the kernel was as it should be, yet written:\n%s", text)
	}
	w.published(1)
	if reply := n.Handle(t.Context(), socket.Request{Verb: socket.VerbCheck, ID: ep.ID}); reply.Error != nil {
		t.Errorf("CHECK of the recovered attachment: %v", reply.Error)
	}
	if _, err := n.add(socket.Request{ID: endpoint.ID{ContainerID: "c2", IfName: "eth0"}, Namespace: "ns", Pod: "p2", Wish: socket.Wish{Addresses: ep.Addresses}}); err == nil {
		t.Error("the recovered pod's address was given to another")
	}
	if err := n.detach(ep.ID); err != nil {
		t.Fatal(err)
	}
	w.published(0)
}

// Policies know a pod whose record was lost by what the runtime said of it, as the datastore has kept it.
func TestLostRecordKeepsLabelsAndPorts(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	r := request("container-of-web", "web")
	r.Traits = endpoint.Traits{Labels: map[string]string{"app": "web"}, Ports: []endpoint.Port{{Name: "http", Protocol: "TCP", Port: 80}}}
	ep, err := n.add(r)
	if err == nil {
		w.alias(ep)
		err = n.ready(ep.ID)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.published(1)
	stored := func() string {
		objs, _, err := w.store.List(t.Context(), api.KindWorkloadEndpoint)
		if err != nil || len(objs) != 1 {
			return fmt.Sprint(objs, err)
		}
		return fmt.Sprint(objs[0].GetResourceVersion(), objs[0].GetLabels(), objs[0].(*api.WorkloadEndpoint).Spec.Ports)
	}
	w.until("the datastore shows it", func() bool { return strings.Contains(stored(), "map[app:web] [{http TCP 80}]") })
	want := stored()
	n.stop()
	w.dir = t.TempDir()
	n = w.start()
	n.untilReady()
	again, err := n.ask(request(ep.ContainerID, "web"))
	if err != nil || fmt.Sprint(again.Traits) != fmt.Sprint(r.Traits) {
		t.Errorf("recovered as %+v, %v", again.Traits, err)
	}
	n.attach("another") // and is mirrored after the recovered one
	w.published(2)
	w.until("the mirror has been at work", func() bool {
		objs, _, err := w.store.List(t.Context(), api.KindWorkloadEndpoint)
		return err == nil && len(objs) == 2
	})
	obj, err := w.store.Get(t.Context(), workloadEndpoint("a", ep).Key())
	if err != nil {
		t.Fatal(err)
	}
	have := obj.(*api.WorkloadEndpoint)
	if text := fmt.Sprint(have.ResourceVersion, have.Labels, have.Spec.Ports); text != want {
		t.Errorf("stored: have %s, want %s", text, want)
	}
}

func TestRouteAloneKeepsAnAddress(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	ep := n.attach("web") // its link has no alias in this test
	w.published(1)
	n.stop()
	w.dir = t.TempDir()
	n = w.start()
	n.untilReady()
	for range 2 {
		_, err := n.add(socket.Request{ID: endpoint.ID{ContainerID: "c2", IfName: "eth0"}, Namespace: "ns", Pod: "p2", Wish: socket.Wish{Addresses: ep.Addresses}})
		if text := describeReply(err); err == nil {
			t.Errorf("the address of an interface in use was given away: %s", text)
		}
	}
}

// Whatever happens to the journal, a pod whose interface is there keeps its route and its address.
func TestADamagedJournalCostsNoPod(t *testing.T) {
	for name, damage := range map[string]func(journal []byte) []byte{
		"emptied":              func([]byte) []byte { return nil },
		"cut off in the first": func(j []byte) []byte { return j[:20] },
		"cut off in a later":   func(j []byte) []byte { return j[:len(j)-30] },
		"a later one changed":  func(j []byte) []byte { j[len(j)-30] ^= 1; return j },
		"the last one missing": func(j []byte) []byte { return j[:bytes.LastIndexByte(j[:len(j)-1], '\n')+1] },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			n := w.start()
			one, two := n.attach("one"), n.attach("two")
			w.alias(one)
			w.alias(two)
			w.published(2)
			n.stop()
			w.writes()
			file := filepath.Join(w.dir, "journal")
			data, err := os.ReadFile(file)
			if err == nil {
				err = os.WriteFile(file, damage(data), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				n = w.start()
				n.untilReady()
				w.later(2 * comeback)
				for i, ep := range []endpoint.Endpoint{one, two} {
					other := request("another", "another")
					other.Addresses = ep.Addresses
					if _, err := n.ask(other); err == nil {
						t.Fatalf("pod %d lives, yet %s was given to another", i, ep.Addresses[0])
					}
					again, err := n.ask(request(ep.ContainerID, ep.Pod))
					if err != nil || !again.Ready || again.Addresses[0] != ep.Addresses[0] {
						t.Errorf("pod %d: ADD again: %+v, %v", i, again, err)
					}
				}
				if text := w.writes(); text != "" {
					t.Errorf("the kernel was as it should be, yet written:\n%s", text)
				}
				n.stop()
			}
		})
	}
}

// An agent that is killed between the pair's making and READY, and a plugin that never comes back.
func TestAnInterfaceThatIsThereIsNotAbandoned(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	n.untilReady()
	there, err := n.ask(request("c1", "there"))
	if err != nil {
		t.Fatal(err)
	}
	gone, err := n.ask(request("c2", "gone"))
	if err != nil {
		t.Fatal(err)
	}
	n.stop()
	n = w.start()
	n.untilReady()
	w.alias(there)
	if err := n.check(there.ID); err != nil && !strings.Contains(err.Error(), "unfinished") { // and now the agent has seen the interface
		t.Fatal(err)
	}
	w.later(2 * comeback)
	w.until("the one without an interface is undone", func() bool {
		return strings.Contains(describeReply(n.check(gone.ID)), "attachment unknown")
	})
	if err := n.check(there.ID); err != nil {
		t.Errorf("the other: %v", err)
	}
	w.until("its route is there", func() bool { return w.hasRoute(there.Addresses[0].String() + "/32 dev " + there.Interface) })
}

// handles gives those that the datastore's blocks list.
func (w *testWorld) handles() string {
	objs, _, err := w.store.List(w.t.Context(), api.KindIPAMBlock)
	if err != nil {
		w.t.Fatal(err)
	}
	var all []string
	for _, o := range objs {
		for _, a := range o.(*api.IPAMBlock).Spec.Attributes {
			if a.ReleasedAt == nil {
				all = append(all, a.HandleID)
			}
		}
	}
	return strings.Join(all, " ")
}

// An alias lacks the network and cannot hold every name; what was recovered from one must still be
// the attachment that the runtime and the datastore know.
func TestARecoveredRecordIsWhole(t *testing.T) {
	for name, id := range map[string][3]string{
		"short": {"c1", "ns", "web"},
		"long":  {strings.Repeat("c", 64), strings.Repeat("n", 63), strings.Repeat("p", 253)},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			n := w.start()
			r := socket.Request{ID: endpoint.ID{ContainerID: id[0], IfName: "eth0"}, Namespace: id[1], Pod: id[2]}
			ep, err := n.add(r)
			if err == nil {
				err = n.ready(ep.ID)
			}
			if err != nil {
				t.Fatal(err)
			}
			w.alias(ep)
			w.published(1)
			w.mirrored(ep)
			handles := w.handles()
			n.stop()
			w.dir = t.TempDir()
			n = w.start()
			n.untilReady()
			if again, err := n.ask(r); err != nil || again.Handle() != ep.Handle() || again.Pod != ep.Pod {
				t.Errorf("ADD again: %v, %v", again, err)
			}
			w.published(1)
			w.mirrored(ep)
			if have := w.handles(); have != handles {
				t.Errorf("the datastore has the handles %s, had %s", have, handles)
			}
			next := r
			next.ContainerID = "second-sandbox"
			if _, err := n.add(next); err != nil {
				t.Errorf("the pod's next sandbox: %v", err)
			}
			if n.check(ep.ID) == nil {
				t.Error("the next sandbox has not displaced the first")
			}
		})
	}
}

// mirrored waits until the datastore has the WorkloadEndpoint of the one pod.
func (w *testWorld) mirrored(ep endpoint.Endpoint) {
	w.t.Helper()
	w.until("the datastore has the WorkloadEndpoint", func() bool {
		objs, _, err := w.store.List(w.t.Context(), api.KindWorkloadEndpoint)
		if err != nil {
			w.t.Fatal(err)
		}
		return len(objs) == 1 && objs[0].(*api.WorkloadEndpoint).Spec.Pod == ep.Pod
	})
}

// Where the datastore does not help, shortened names stay so until the runtime says them.
func TestShortenedNames(t *testing.T) {
	at := New(Config{}, Parts{Journal: nopJournal{}, Log: slog.New(slog.DiscardHandler)}).at
	whole := endpoint.Endpoint{
		ID: endpoint.ID{ContainerID: strings.Repeat("c", 64), IfName: "eth0"}, Namespace: strings.Repeat("n", 63), Pod: strings.Repeat("p", 253),
		Interface: "calix", Addresses: []netip.Addr{netip.MustParseAddr("172.17.8.2")}, Ready: true,
	}
	alias, err := endpoint.ParseAlias(endpoint.FormatAlias(whole.Alias()))
	if err != nil {
		t.Fatal(err)
	}
	short := whole
	short.ID, short.Namespace, short.Pod = alias.ID, alias.Namespace, alias.Pod
	adopt := func() {
		if err := at.adopt(found{short, true}); err != nil {
			t.Fatal(err)
		}
		at.learn(api.Snapshot{})
		if weps := workloadEndpoints("a", at.endpoints, nil); len(weps) > 0 {
			t.Errorf("mirrored as %s", weps[0].Name)
		}
	}
	adopt()
	if err := at.remove(whole.ID); err != nil || len(at.endpoints) > 0 {
		t.Errorf("DEL: %v, left %v", err, at.endpoints)
	}
	adopt()
	r := socket.Request{ID: whole.ID, Network: "korat", Namespace: whole.Namespace, Pod: whole.Pod}
	if ep, err := at.add(r, 0); err != nil || ep.Addresses[0] != whole.Addresses[0] || len(at.endpoints) != 1 {
		t.Errorf("ADD: %v, %v, record %v", ep, err, at.endpoints)
	}
	weps := workloadEndpoints("a", at.endpoints, nil)
	if len(weps) != 1 || api.Validate(weps[0]) != nil {
		t.Errorf("mirrored as %v", weps)
	}
}

// An address is kept for an interface without a record only as long as there is that interface.
func TestAnOrphanEndsWithItsInterface(t *testing.T) {
	w := newWorld(t)
	w.resync = 20 * time.Millisecond
	n := w.start()
	ep := n.attach("web")
	w.published(1)
	n.stop()
	w.dir = t.TempDir()
	n = w.start()
	n.untilReady()
	w.published(1)
	w.kernel.removeLink(ep.Interface)
	w.published(0)
}
