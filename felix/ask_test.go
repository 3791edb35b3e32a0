// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"korat/api"
	"korat/cni-plugin/socket"
	"korat/felix/dataplane"
	"korat/felix/endpoint"
	"korat/felix/kernel"
	"korat/felix/reconcile/reconciletest"
)

// call sends a request that has no reply but an error.
func (n *node) call(r socket.Request) error {
	if reply := n.Handle(n.w.t.Context(), r); reply.Error != nil {
		return reply.Error
	}
	return nil
}

// GC names the network's attachments that are not valid, and removes nothing.
func TestStale(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	for _, pod := range []string{"kept", "gone", "gone-too"} {
		n.attach(pod)
	}
	if _, err := n.add(request("container-of-new", "new")); err != nil { // its plugin is at work
		t.Fatal(err)
	}
	id := func(pod string) endpoint.ID { return endpoint.ID{ContainerID: "container-of-" + pod, IfName: "eth0"} }
	tests := []struct {
		network string
		valid   []endpoint.ID
		want    string
	}{
		{"korat", []endpoint.ID{id("kept"), id("unknown"), {ContainerID: "container-of-gone", IfName: "net1"}}, "[gone gone-too]"},
		{"korat", []endpoint.ID{id("kept"), id("gone"), id("gone-too")}, "[]"},
		{"korat", nil, "[gone gone-too kept]"},
		{"other", nil, "[]"},
		{"", nil, "[]"},
	}
	for range 2 {
		for _, tt := range tests {
			reply := n.Handle(t.Context(), socket.Request{Verb: socket.VerbGC, Network: tt.network, Query: socket.Query{Valid: tt.valid}})
			have := []string{}
			for _, ep := range reply.Stale {
				have = append(have, ep.Pod)
			}
			slices.Sort(have)
			if reply.Error != nil || fmt.Sprint(have) != tt.want {
				t.Errorf("%s %v: have %v, %v, want %s", tt.network, tt.valid, have, reply.Error, tt.want)
			}
		}
	}
}

// GC needs no datastore, as DEL needs none.
func TestStaleBeforeInSync(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	n.attach("web")
	n.stop()
	n = w.startWith(deafStore{w.store}, &sync.WaitGroup{})
	reply := n.Handle(t.Context(), socket.Request{Verb: socket.VerbGC, Network: "korat"})
	if reply.Error != nil || len(reply.Stale) != 1 {
		t.Errorf("have %+v", reply)
	}
}

func TestStatusSaysWhyNot(t *testing.T) {
	w := newWorld(t)
	pool := &api.IPPool{Spec: api.IPPoolSpec{CIDR: "10.9.0.0/29", BlockSize: 29}}
	pool.Name = "small"
	api.Default(pool)
	w.create(pool)
	n := w.start()
	status := func() string { return describeReply(n.call(socket.Request{Verb: socket.VerbStatus})) }
	w.until("STATUS is good", func() bool { return status() == "ok" })
	for i := range 8 {
		n.attach(fmt.Sprintf("p%d", i))
	}
	if have := status(); have != "ok" {
		t.Errorf("a full pool takes the whole node out of service: %s", have)
	}
	w.kernel.removeLink("eth0")
	w.speaker.learn(w.speaker.RIB())
	n.stop()
	n = w.start() // one that has never seen its uplink
	w.until("STATUS tells that there is no node address", func() bool {
		return strings.HasPrefix(status(), "code 11: agent not ready: ") && strings.Contains(status(), "node address")
	})
}

// CHECK waits for the kernel as READY does, and says what is amiss.
func TestCheckTellsOfTheKernel(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	ep := n.attach("web")
	check := socket.Request{Verb: socket.VerbCheck, ID: ep.ID}
	if err := n.call(check); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	if _, err := n.add(request("container-of-new", "new")); err != nil {
		t.Fatal(err)
	}
	unfinished := socket.Request{Verb: socket.VerbCheck, ID: endpoint.ID{ContainerID: "container-of-new", IfName: "eth0"}}
	if have := describeReply(n.call(unfinished)); !strings.HasPrefix(have, "code 11: attachment unfinished: container-of-new/eth0") {
		t.Errorf("CHECK of an unfinished attachment: %s", have)
	}
	unknown := socket.Request{Verb: socket.VerbCheck, ID: endpoint.ID{ContainerID: "x", IfName: "eth0"}}
	if have := describeReply(n.call(unknown)); have != "code 3: attachment unknown: x/eth0" {
		t.Errorf("CHECK of an unknown attachment: %s", have)
	}
	key := dataplane.RouteKey{Prefix: netip.PrefixFrom(ep.Addresses[0], 32)}
	w.routes.Change(func(table *reconciletest.Table[dataplane.RouteKey, dataplane.Route]) {
		table.Bad = map[dataplane.RouteKey]error{key: errors.New("no room")}
		delete(table.Have, key)
	})
	w.kernel.tell(kernel.Everything())
	if have := describeReply(n.call(check)); !strings.HasPrefix(have, "code 11: pod is not in the kernel: ") || !strings.Contains(have, "no room") {
		t.Errorf("CHECK of an attachment without its route: %s", have)
	}
}
