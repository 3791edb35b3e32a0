// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"testing"

	"korat/api"
	"korat/cni-plugin/socket"
	"korat/felix/dataplane"
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
			for _, a := range o.(*api.IPAMBlock).Spec.Allocations {
				if a != nil {
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
	alias := endpoint.FormatAlias(endpoint.Alias{ID: ep.ID, Namespace: ep.Namespace, Pod: ep.Pod, Addresses: ep.Addresses})
	w.kernel.addLink(ep.Interface, dataplane.HostLink{Index: 100, Type: "veth", MTU: 1400, Up: true, Running: true, Alias: alias})
	w.published(1)
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
	if _, err := n.add(socket.Request{ID: endpoint.ID{ContainerID: "c2", IfName: "eth0"}, Namespace: "ns", Pod: "p2", Addresses: ep.Addresses}); err == nil {
		t.Error("the recovered pod's address was given to another")
	}
	if err := n.detach(ep.ID); err != nil {
		t.Fatal(err)
	}
	w.published(0)
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
		_, err := n.add(socket.Request{ID: endpoint.ID{ContainerID: "c2", IfName: "eth0"}, Namespace: "ns", Pod: "p2", Addresses: ep.Addresses})
		if text := describeReply(err); err == nil {
			t.Errorf("the address of an interface in use was given away: %s", text)
		}
	}
}
