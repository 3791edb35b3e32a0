// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"korat/api"
	"korat/bgp"
	"korat/cni-plugin/socket"
	"korat/felix/endpoint"
	"korat/test/lab"
)

// walkSteps is how many steps a walk has, and storeEvery after how many of them the blocks in the datastore are held
// against the pods: they are published once a second.
const (
	walkSteps  = 1000
	storeEvery = 50
)

// TestWalk goes through random changes of a host, its kernel, its datastore and its neighbours, by the agent's doing
// and by others'. After each step, an agent without a memory finds nothing to do.
func TestWalk(t *testing.T) {
	w := newWalk(t, seed(t))
	moves := w.moves()
	w.stored() // From now on it has a block, and can do without the datastore.
	for step := range walkSteps {
		move := moves[w.rand.IntN(len(moves))]
		w.last = fmt.Sprintf("step %d: %s", step, move.name)
		move.do()
		w.taken[move.name]++
		w.converged()
		if step%storeEvery == storeEvery-1 {
			w.stored()
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	for _, move := range moves {
		if w.taken[move.name] == 0 {
			t.Errorf("never done: %s", move.name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.pods)) {
		w.detach(name)
	}
	w.converged()
	w.stored()
	t.Logf("%v", w.taken)
}

// move is a kind of step.
type move struct {
	name string
	do   func()
}

func (w *walk) moves() []move {
	return []move{
		{"a pod comes, or moves to another sandbox", func() { w.attach(fmt.Sprint("pod", w.rand.IntN(8))) }},
		{"a pod goes", func() { w.some(w.detach) }},
		{"a pod's interface vanishes", func() { w.some(w.vanish) }},
		{"a pod's interface is set down", func() { w.some(func(p string) { w.ip("link set %s down", w.pods[p].Interface) }) }},
		{"a pod's interface flaps", func() {
			w.some(func(p string) {
				w.ip("link set %s down", w.pods[p].Interface)
				w.ip("link set %s up", w.pods[p].Interface)
			})
		}},
		{"the uplink goes down or up", w.flap},
		{"a default route comes or goes", func() {
			if !w.tryIP("route add default via 192.168.100.1") {
				w.tryIP("route del default")
			}
		}},
		{"a pod's route is deleted", func() { w.some(func(p string) { w.tryIP("route del %s", w.address(p)) }) }},
		{"a pod's route is replaced", w.reroute("route replace %s via %s proto static")},
		{"a pod's route gets a rival", w.reroute("route add %s via %s proto static metric 7")},
		{"a block's route is replaced", func() {
			block := w.block()
			w.tryIP("route replace %s via %s proto static", block, router(block.Addr()))
		}},
		{"routes of ours are planted", func() {
			w.tryIP("route add 10.66.%d.0/24 via 192.168.100.7 proto 75", w.rand.IntN(4))
			w.tryIP("route add fd00:66:%d::/64 via fd00:192::7 proto 75", w.rand.IntN(4))
		}},
		{"all routes of ours are deleted", func() { w.flush("75") }},
		{"all routes of others' are deleted", func() { w.flush("static") }},
		{"a pod's neighbour is deleted", func() {
			w.some(func(p string) { w.tryIP("neigh del %s dev %s", w.address(p), w.pods[p].Interface) })
		}},
		{"a pod's neighbour is replaced", func() {
			w.some(func(p string) {
				w.tryIP("neigh replace %s lladdr 02:00:00:00:00:99 dev %s nud permanent", w.address(p), w.pods[p].Interface)
			})
		}},
		{"a pod's sysctl is changed", func() {
			w.some(func(p string) {
				key := []string{"ipv4/conf/%s/forwarding=0", "ipv4/conf/%s/rp_filter=0", "ipv4/conf/%s/proxy_arp=0", "ipv6/conf/%s/forwarding=0"}[w.rand.IntN(4)]
				w.host.Run("sysctl", "-qw", "net/"+fmt.Sprintf(key, w.pods[p].Interface))
			})
		}},
		{"forwarding is switched off", func() {
			w.host.Run("sysctl", "-qw", []string{"net/ipv4/ip_forward=0", "net/ipv6/conf/all/forwarding=0"}[w.rand.IntN(2)])
		}},
		{"an address comes or goes", func() {
			if !w.tryIP("addr add 10.9.0.1/24 dev eth0") {
				w.tryIP("addr del 10.9.0.1/24 dev eth0")
			}
		}},
		{"a node joins or leaves", func() { w.neighbour(w.rand.IntN(6)) }},
		{"another node's block comes or goes", func() { w.foreignBlock(w.rand.IntN(6)) }},
		{"the agent is restarted", func() { w.restart(true) }},
		{"the agent is restarted without its record", func() { w.restart(false) }},
		{"the datastore is away for a while", w.away},
	}
}

// some does something to one of the pods, if there is one.
func (w *walk) some(do func(pod string)) {
	if names := slices.Sorted(maps.Keys(w.pods)); len(names) > 0 {
		do(names[w.rand.IntN(len(names))])
	}
}

// address is one of a pod's, router a neighbour to which a route of that family can lead.
func (w *walk) address(pod string) netip.Addr {
	all := w.pods[pod].Addresses
	return all[w.rand.IntN(len(all))]
}

func router(addr netip.Addr) string {
	if addr.Is4() {
		return "192.168.100.7"
	}
	return "fd00:192::7"
}

// reroute tries to make a route to one of a pod's addresses that leads elsewhere.
func (w *walk) reroute(format string) func() {
	return func() {
		w.some(func(p string) {
			addr := w.address(p)
			w.tryIP(format, addr, router(addr))
		})
	}
}

// block is one of this node's, by a pod's address.
func (w *walk) block() netip.Prefix {
	block := netip.MustParsePrefix("172.17.0.0/24")
	w.some(func(p string) {
		addr := w.address(p)
		block = netip.PrefixFrom(addr, addr.BitLen()-8).Masked()
	})
	return block
}

func (w *walk) ip(format string, args ...any) {
	w.t.Helper()
	w.host.Run(append([]string{"ip"}, strings.Fields(fmt.Sprintf(format, args...))...)...)
}

// tryIP may find that the kernel does not take it: that depends on what came before.
func (w *walk) tryIP(format string, args ...any) bool {
	_, err := w.host.Try(append([]string{"ip"}, strings.Fields(fmt.Sprintf(format, args...))...)...)
	return err == nil
}

// flush deletes all routes of a protocol.
func (w *walk) flush(protocol string) {
	w.tryIP("-4 route flush proto %s", protocol)
	w.tryIP("-6 route flush proto %s", protocol)
}

func (w *walk) flap() {
	if w.uplinkDown = !w.uplinkDown; w.uplinkDown {
		w.ip("link set eth0 down")
	} else {
		w.ip("link set eth0 up")
	}
}

// attach plays the runtime and the plugin for a pod's new sandbox.
func (w *walk) attach(pod string) {
	w.next++
	id := endpoint.ID{ContainerID: fmt.Sprint("sandbox", w.next), IfName: "eth0"}
	ep := w.ask(socket.Request{Verb: socket.VerbAdd, ID: id, Network: "korat", Namespace: "ns", Pod: pod, Wish: socket.Wish{Families: []socket.Family{{Version: 4}, {Version: 6}}}})
	if ep == nil {
		return
	}
	for other, have := range w.pods {
		if other != pod && slices.ContainsFunc(have.Addresses, func(a netip.Addr) bool { return slices.Contains(ep.Addresses, a) }) {
			w.t.Errorf("%s: %s got %v, which %s has", w.last, pod, ep.Addresses, other)
		}
	}
	w.tryIP("link del %s", ep.Interface)
	w.ip("link add %s type veth peer name p%d", ep.Interface, w.next)
	w.host.Run("ip", "link", "set", ep.Interface, "address", "ee:ee:ee:ee:ee:ee", "alias", endpoint.FormatAlias(ep.Alias()))
	w.ip("link set p%d up", w.next)
	w.ip("link set %s up", ep.Interface)
	w.ask(socket.Request{Verb: socket.VerbReady, ID: id, MAC: "02:00:00:00:00:01"})
	w.pods[pod] = *ep
	for _, addr := range ep.Addresses {
		family := map[bool]string{true: "-4", false: "-6"}[addr.Is4()]
		if out := w.host.Run("ip", family, "route", "show", "exact", addr.String()); !strings.Contains(out, ep.Interface) {
			w.t.Errorf("%s: ADD has succeeded, but the route is %q", w.last, out)
		}
	}
}

func (w *walk) detach(pod string) {
	ep := w.pods[pod]
	w.tryIP("link del %s", ep.Interface)
	delete(w.pods, pod)
	w.ask(socket.Request{Verb: socket.VerbDel, ID: ep.ID})
}

// vanish is what happens when a network namespace goes before its DEL comes.
func (w *walk) vanish(pod string) {
	w.ip("link del %s", w.pods[pod].Interface)
	w.converged()
	w.detach(pod)
}

// ask sends one request, which must succeed.
func (w *walk) ask(r socket.Request) *endpoint.Endpoint {
	w.t.Helper()
	reply := w.agent.Handle(limit(w.t), r)
	if reply.Error != nil {
		w.t.Fatalf("%s: %s of %s: %v", w.last, r.Verb, r.ID, reply.Error)
	}
	return reply.Endpoint
}

func nodeName(i int) string { return fmt.Sprintf("node%d", i) }

func nodeAddress(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 168, 100, byte(101 + i)}) }

// neighbour has another node join, or leave with its block.
func (w *walk) neighbour(i int) {
	node := &api.Node{}
	node.Name = nodeName(i)
	node.Spec.BGP = &api.NodeBGPSpec{IPv4Address: nodeAddress(i).String() + "/24", IPv6Address: nodeAddress6(i).String() + "/64"}
	api.Default(node)
	if w.nodes[i] = !w.nodes[i]; w.nodes[i] {
		w.create(node)
		return
	}
	w.delete(node.Key())
	if w.blocks[i] {
		w.foreignBlock(i)
	}
}

func nodeAddress6(i int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("fd00:192::%d", 101+i))
}

// foreignBlocks are those of another node's, with the next hop to each.
func foreignBlocks(i int) map[netip.Prefix]netip.Addr {
	return map[netip.Prefix]netip.Addr{
		netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 17, byte(200 + i), 0}), 24):          nodeAddress(i),
		netip.PrefixFrom(netip.MustParseAddr(fmt.Sprintf("fd00:17:0:ff::%d00", 1+i)), 120): nodeAddress6(i),
	}
}

// foreignBlock has blocks of another node's be claimed and advertised, or withdrawn.
func (w *walk) foreignBlock(i int) {
	w.blocks[i] = !w.blocks[i]
	for cidr := range foreignBlocks(i) {
		b, a := blockOf(w.t, nodeName(i), cidr)
		if w.blocks[i] {
			w.create(b)
			w.create(a)
		} else {
			w.delete(a.Key())
			w.delete(b.Key())
		}
	}
	paths := map[netip.Prefix][]bgp.Path{}
	for i, there := range w.blocks {
		if !there {
			continue
		}
		for prefix, hop := range foreignBlocks(i) {
			paths[prefix] = []bgp.Path{{NextHop: hop, Peer: hop}}
		}
	}
	w.speaker.learn(paths)
}

// restart has another agent take over, with the record or without it.
func (w *walk) restart(record bool) {
	w.stop()
	if !record {
		if err := os.Remove(w.journalFile()); err != nil {
			w.t.Fatal(err)
		}
	}
	w.start()
	w.ready()
}

// away has pods come and go while the datastore can't be reached.
func (w *walk) away() {
	w.store.SetDown(true)
	defer w.store.SetDown(false)
	w.attach(fmt.Sprint("pod", w.rand.IntN(8)))
	w.some(w.detach)
	w.some(func(p string) { w.tryIP("route del %s", w.address(p)) })
	w.attach(fmt.Sprint("pod", w.rand.IntN(8)))
	w.routed()
}

// routed waits until each pod has its route.
func (w *walk) routed() {
	w.until("the pods have their routes", func(context.Context) error {
		out := w.host.Run("ip", "-4", "route", "show", "proto", "75") + w.host.Run("ip", "-6", "route", "show", "proto", "75")
		for pod, ep := range w.pods {
			for _, addr := range ep.Addresses {
				if !strings.Contains(out, addr.String()+" dev "+ep.Interface+" ") {
					return fmt.Errorf("%s has none to %s:\n%s", pod, addr, out)
				}
			}
		}
		return nil
	})
}

// until waits for a condition. Whatever the agent does, it does at once.
func (w *walk) until(what string, check func(context.Context) error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	var last error // not that of what the end of the wait has cut off
	err := lab.Until(ctx, what, func(ctx context.Context) error {
		err := check(ctx)
		if ctx.Err() == nil {
			last = err
		}
		return err
	})
	if err != nil {
		w.t.Fatalf("%s: %v; before that: %v\nroutes:\n%s", w.last, err, last, w.host.Run("ip", "route"))
	}
}
