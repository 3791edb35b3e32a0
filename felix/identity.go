// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"

	"korat/api"
	"korat/felix/autodetect"
	"korat/felix/dataplane"
	"korat/ipam"
)

// Identity says who this node is and how it finds its address.
type Identity struct {
	// Node is the node's name.
	Node string
	// Address fixes the node's address; invalid means that Method chooses.
	Address netip.Addr
	Method  autodetect.Method
}

// addressPatience is how long the address that a node is registered with may be missing before it gets
// another: networking that is restarted takes addresses away for a moment.
const addressPatience = time.Minute

// standing is what the agent knows of its registration from one pass to the next.
type standing struct {
	now func() time.Time
	// ours are the addresses that this agent has registered, or wanted to.
	ours map[netip.Addr]bool
	// over is what the Node showed when it was not yet ours.
	over netip.Addr
	// seen is when the registered address was last on this host, or the agent's start.
	seen time.Time
	// usurped says that another host has registered under this node's name.
	usurped bool
	// inherited says that the Node was registered with an address that this host does not have: by this
	// host before it got another address, or by another host.
	inherited bool
}

func newStanding(now func() time.Time) standing {
	return standing{now: now, seen: now(), ours: map[netip.Addr]bool{}}
}

// identify settles the node's own address. What it was reached at stays while that is in question: its
// pods work on.
func (a *Agent) identify(ctx context.Context) {
	w, st := &a.world, &a.standing
	registered, _ := nodeAddress(w.snap, a.Node)
	choice, err := a.choose(ctx, w.snap, w.host, st)
	if err == nil {
		err = a.memos.conflict.get(conflictInputs{w.snap.Nodes, w.snap.IPPools, choice.Address}, func() error {
			return errors.Join(a.conflict(w.snap, choice.Address.Addr()), a.overlap(w.snap, choice.Address))
		})
		if err == nil && choice != w.self {
			a.announce(choice, registered)
		}
		if err == nil || !w.self.Address.IsValid() {
			w.self = choice
		}
	}
	if err != nil && (w.selfErr == nil || w.selfErr.Error() != err.Error()) {
		a.Log.Error("node address", "error", err)
	}
	w.selfErr = err
	a.Mirror.See(a.writable())
	if err != nil {
		a.soon()
		return
	}
	first := len(st.ours) == 0
	st.take(choice.Address.Addr(), registered, w.host)
	if first {
		a.releaseOrphans()
	}
}

// announce logs the node's address.
func (a *Agent) announce(choice autodetect.Choice, registered netip.Addr) {
	level, was := slog.LevelInfo, "none"
	if registered.IsValid() {
		was = registered.String()
		if registered != choice.Address.Addr() {
			level = slog.LevelWarn
		}
	}
	a.Log.Log(context.Background(), level, "node address", "address", choice.Address.String(), "interface", choice.Interface, "registered", was)
}

// writable is the Snapshot by which the datastore may be written: none while another host runs under this
// node's name, as the two would undo each other's writes for ever.
func (a *Agent) writable() api.Snapshot {
	if a.standing.usurped {
		return api.Snapshot{}
	}
	return a.world.snap
}

// wants is what ipam's objects in the datastore ought to be like.
func (a *Agent) wants() ipam.Wants {
	if a.standing.usurped {
		return ipam.Wants{}
	}
	return a.at.alloc.Wants()
}

// choose picks the node's address: the configured one; else the one that its Node object already
// has, as long as some interface carries it, be that link up or down (an address that works is never
// changed silently, and a flap of the uplink must not move the node to another); else the method's choice.
//
// An address in the Node that is not on this host, and that this agent has neither written nor found
// there at its start, is another host's. The two would take the Node from each other for ever, and give
// pods addresses of the same blocks: the one that sees its registration overwritten stops.
func (id Identity) choose(ctx context.Context, snap api.Snapshot, host dataplane.Host, st *standing) (autodetect.Choice, error) {
	registered, ok := nodeAddress(snap, id.Node)
	here, found := autodetect.FindAny(host, registered)
	if found {
		st.seen = st.now()
	}
	until := st.seen.Add(addressPatience)
	st.usurped = ok && !found && len(st.ours) > 0 && !st.ours[registered] && registered != st.over
	switch {
	case st.usurped:
		return autodetect.Choice{}, fmt.Errorf("another host (address %s) runs as node %q: give one of the two another --node-name, and delete Node %q for the other to register again",
			registered, id.Node, id.Node)
	case id.Address.IsValid():
		return id.given(host, st)
	case found:
		return here, nil
	case ok && st.now().Before(until):
		return autodetect.Choice{}, fmt.Errorf("address %s, with which this node is registered, is on no interface: add it again, or wait until %s for this node to choose another",
			registered, until.Format(time.TimeOnly))
	}
	return id.Method.Choose(host, func(dest netip.Addr) (netip.Addr, error) { return sourceFor(ctx, dest) })
}

// given finds the configured address. Its link must be running when the agent takes it, and may fail later.
func (id Identity) given(host dataplane.Host, st *standing) (autodetect.Choice, error) {
	find := autodetect.Find
	if st.ours[id.Address] {
		find = autodetect.FindAny
	}
	if c, ok := find(host, id.Address); ok {
		return c, nil
	}
	return autodetect.Choice{}, fmt.Errorf("address %s given by --ip is on no running interface", id.Address)
}

// take notes that the node is to be registered with addr.
func (st *standing) take(addr, registered netip.Addr, host dataplane.Host) {
	st.over = netip.Addr{}
	if registered.IsValid() && registered != addr && !st.ours[registered] {
		st.over = registered
		if _, found := autodetect.FindAny(host, registered); !found {
			st.inherited = true
		}
	}
	st.ours[addr] = true
}

// conflict reports another node that holds addr.
func (id Identity) conflict(snap api.Snapshot, addr netip.Addr) error {
	for name := range snap.Nodes.All() {
		if other, ok := nodeAddress(snap, name); ok && name != id.Node && other == addr {
			return fmt.Errorf("address %s is held by node %q in the datastore: delete that Node if it is gone, or give this node another address with --ip", addr, name)
		}
	}
	return nil
}

// register gives the Node object as it should be, derived from the stored one, or nil if it is so.
func (id Identity) register(snap api.Snapshot, addr netip.Prefix) *api.Node {
	node, exists := snap.Nodes.Get(id.Node)
	if exists {
		node = node.DeepCopy()
	} else {
		node = &api.Node{}
		node.Name = id.Node
	}
	was := node.DeepCopy()
	if node.Spec.BGP == nil {
		node.Spec.BGP = &api.NodeBGPSpec{}
	}
	node.Spec.BGP.IPv4Address = addr.String()
	want := api.NodeAddress{Address: addr.Addr().String(), Type: "InternalIP"}
	before, _ := nodeAddress(snap, id.Node)
	node.Spec.Addresses = slices.DeleteFunc(node.Spec.Addresses, func(a api.NodeAddress) bool {
		return a == want || a.Type == want.Type && a.Address == before.String()
	})
	node.Spec.Addresses = append(node.Spec.Addresses, want)
	slices.SortFunc(node.Spec.Addresses, func(a, b api.NodeAddress) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Address, b.Address))
	})
	if exists && was.Spec.BGP != nil && was.Spec.BGP.IPv4Address == node.Spec.BGP.IPv4Address && slices.Equal(was.Spec.Addresses, node.Spec.Addresses) {
		return nil
	}
	api.Default(node)
	return node
}

func nodeAddress(snap api.Snapshot, name string) (netip.Addr, bool) {
	node, ok := snap.Nodes.Get(name)
	if !ok || node.Spec.BGP == nil {
		return netip.Addr{}, false
	}
	p, err := netip.ParsePrefix(node.Spec.BGP.IPv4Address)
	return p.Addr(), err == nil
}

// sourceFor asks the kernel which address it would send from. A connected UDP socket sends nothing.
func sourceFor(ctx context.Context, dest netip.Addr) (netip.Addr, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "udp4", netip.AddrPortFrom(dest, 9).String())
	if err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()
	local, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		return netip.Addr{}, errors.New("no local address")
	}
	return local.AddrPort().Addr().Unmap(), nil
}
