// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"korat/api"
	"korat/felix/autodetect"
	"korat/felix/dataplane"
	"korat/ipam"
)

// Identity says who this node is and how it finds its addresses.
type Identity struct {
	// Node is the node's name.
	Node       string
	IPv4, IPv6 Source
}

// Source says where the node's address of one family comes from. The zero Source is from nowhere: the node has none.
type Source struct {
	// Address fixes it.
	Address netip.Addr
	// Method chooses it where Address is invalid.
	Method autodetect.Method
}

// None says that the node has no address of the family.
func (s Source) None() bool { return !s.Address.IsValid() && s.Method.IsZero() }

func (id Identity) source(f api.Family) Source {
	if f == api.IPv4 {
		return id.IPv4
	}
	return id.IPv6
}

// families gives those that the node is to have an address of, be it there or not.
func (id Identity) families() []api.Family {
	return slices.DeleteFunc(api.Families(), func(f api.Family) bool { return id.source(f).None() })
}

// perFamily is one T for each address family.
type perFamily[T any] struct{ ipv4, ipv6 T }

func (p *perFamily[T]) of(f api.Family) *T {
	if f == api.IPv4 {
		return &p.ipv4
	}
	return &p.ipv6
}

// self is what the node is reached at by one family.
type self struct {
	autodetect.Choice
	// taken says that this is, or was until err came up, without a doubt the node's.
	taken bool
	// err is why there is no address or it may not be used.
	err error
}

// own are the node's addresses; one that is in question stays.
func (w *world) own() api.Addresses {
	var own api.Addresses
	if w.self.ipv4.taken {
		own.IPv4 = w.self.ipv4.Address
	}
	if w.self.ipv6.taken {
		own.IPv6 = w.self.ipv6.Address
	}
	return own
}

// reachable says whether the node has an address of any family that is in no question.
func (w *world) reachable() bool {
	for _, f := range api.Families() {
		if s := w.self.of(f); s.taken && s.err == nil && s.Address.IsValid() {
			return true
		}
	}
	return false
}

// addressPatience is how long the address that a node is registered with may be missing before it gets
// another: networking that is restarted takes addresses away for a moment.
const addressPatience = time.Minute

// registration is what the agent knows of its own Node from one pass to the next.
type registration struct {
	perFamily[standing]
	// complete is true once every family has been settled for the first time.
	complete bool
}

// usurped says that another host has registered under this node's name.
func (r *registration) usurped() bool { return r.ipv4.usurped || r.ipv6.usurped }

// inherited says that the Node was registered with an address that this host does not have.
func (r *registration) inherited() bool { return r.ipv4.inherited || r.ipv6.inherited }

// standing is what the agent knows of its registration with the address of one family.
type standing struct {
	now func() time.Time
	// ours are the addresses that this agent has registered, or wanted to. The invalid one is among them
	// if the node is to have none.
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

func newRegistration(now func() time.Time) registration {
	var r registration
	for _, f := range api.Families() {
		*r.of(f) = standing{now: now, seen: now(), ours: map[netip.Addr]bool{}}
	}
	return r
}

// identify settles the node's own addresses. What it was reached at stays while that is in question: its
// pods work on.
func (a *Agent) identify(ctx context.Context) {
	w := &a.world
	for _, f := range api.Families() {
		a.identifyBy(ctx, f)
	}
	err := both(w.self.ipv4.err, w.self.ipv6.err)
	if err != nil && (w.selfErr == nil || w.selfErr.Error() != err.Error()) {
		a.Log.Error("node address", "error", err)
	}
	w.selfErr = err
	a.Mirror.See(a.writable())
	if err != nil {
		a.soon()
		return
	}
	if !a.world.registration.complete {
		a.world.registration.complete = true
		a.releaseOrphans()
	}
}

// both joins two errors in one line.
func both(x, y error) error {
	if x != nil && y != nil {
		return fmt.Errorf("%w; %w", x, y)
	}
	return errors.Join(x, y)
}

// identifyBy settles the node's address of one family.
func (a *Agent) identifyBy(ctx context.Context, f api.Family) {
	w, st, have := &a.world, a.world.registration.of(f), a.world.self.of(f)
	choice, err := a.choose(ctx, f, w.snap, w.host, st)
	if err == nil && choice.Address.IsValid() {
		err = a.memos.conflict.of(f).get(conflictInputs{w.snap.Nodes, w.snap.IPPools, choice.Address}, func() error {
			return errors.Join(a.conflict(w.snap, choice.Address.Addr()), a.overlap(w.snap, choice.Address))
		})
	}
	registered := registeredAddresses(w.snap, a.Node).Of(f).Addr()
	have.err = err
	if err != nil {
		if !have.taken {
			have.Choice, have.taken = a.resumed(f, w.host, registered, choice)
		}
		return
	}
	if choice != have.Choice || !have.taken {
		a.announce(f, choice, registered)
	}
	*have = self{Choice: choice, taken: true}
	st.take(choice.Address.Addr(), registered, w.host)
}

// resumed gives what a node with an address in question goes on with: the address that it is registered with if that
// is on the host and no other is configured. An earlier run had it without a doubt; its sessions and routes are up.
func (id Identity) resumed(f api.Family, host dataplane.Host, registered netip.Addr, choice autodetect.Choice) (autodetect.Choice, bool) {
	fixed := id.source(f).Address
	if here, found := autodetect.FindAny(host, registered); found && (!fixed.IsValid() || fixed == registered) {
		return here, true
	}
	return choice, false
}

// announce logs the node's address of one family.
func (a *Agent) announce(f api.Family, choice autodetect.Choice, registered netip.Addr) {
	level, was, is := slog.LevelInfo, "none", "none"
	if registered.IsValid() {
		was = registered.String()
		if registered != choice.Address.Addr() {
			level = slog.LevelWarn
		}
	}
	if choice.Address.IsValid() {
		is = choice.Address.String()
	}
	if was != is {
		a.Log.Log(context.Background(), level, "node address", "family", f.String(), "address", is, "interface", choice.Interface, "registered", was)
	}
}

// writable is the Snapshot by which the datastore may be written: none while another host runs under this
// node's name, as the two would undo each other's writes for ever.
func (a *Agent) writable() api.Snapshot {
	if a.world.registration.usurped() {
		return api.Snapshot{}
	}
	return a.world.snap
}

// wants is what ipam's objects in the datastore ought to be like.
func (a *Agent) wants() ipam.Wants {
	if a.world.registration.usurped() {
		return ipam.Wants{}
	}
	return a.at.alloc.Wants()
}

// choose picks the node's address of one family, if it is to have one: the configured one; else the one that its
// Node object already has, as long as some interface carries it, be that link up or down (an address that works is
// never changed silently, and a flap of the uplink must not move the node to another); else the method's choice.
//
// An address in the Node that is not on this host, and that this agent has neither written nor found
// there at its start, is another host's. The two would take the Node from each other for ever, and give
// pods addresses of the same blocks: the one that sees its registration overwritten stops.
func (id Identity) choose(ctx context.Context, f api.Family, snap api.Snapshot, host dataplane.Host, st *standing) (autodetect.Choice, error) {
	source, registered := id.source(f), registeredAddresses(snap, id.Node).Of(f).Addr()
	here, found := autodetect.FindAny(host, registered)
	if found {
		st.seen = st.now()
	}
	until := st.seen.Add(addressPatience)
	st.usurped = registered.IsValid() && !found && len(st.ours) > 0 && !st.ours[registered] && registered != st.over
	switch {
	case st.usurped:
		return autodetect.Choice{}, fmt.Errorf("another host (address %s) runs as node %q: give one of the two another --node-name, and delete Node %q for the other to register again",
			registered, id.Node, id.Node)
	case source.None():
		return autodetect.Choice{}, nil
	case source.Address.IsValid():
		return source.given(host, st)
	case found:
		return here, nil
	case registered.IsValid() && st.now().Before(until):
		return autodetect.Choice{}, fmt.Errorf("address %s, with which this node is registered, is on no interface: add it again, or wait until %s for this node to choose another",
			registered, until.Format(time.TimeOnly))
	}
	return source.Method.Choose(host, func(dest netip.Addr) (netip.Addr, error) { return sourceFor(ctx, dest) })
}

// given finds the configured address. Its link must be running when the agent takes it, and may fail later.
func (s Source) given(host dataplane.Host, st *standing) (autodetect.Choice, error) {
	find := autodetect.Find
	if st.ours[s.Address] {
		find = autodetect.FindAny
	}
	if c, ok := find(host, s.Address); ok {
		return c, nil
	}
	why := ""
	switch {
	case s.Address.Is4():
	case host.HasIPv6():
		why = " (is the sysctl disable_ipv6 of its interface 1?)"
	default:
		why = ", as this kernel has no IPv6 (was it started with ipv6.disable=1?)"
	}
	return autodetect.Choice{}, fmt.Errorf("address %s given by %s is on no running interface%s", s.Address, flagFor(s.Address), why)
}

// flagFor names the setting of a node's address.
func flagFor(addr netip.Addr) string {
	return autodetect.Flag(api.FamilyOf(addr))
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
	for name, node := range snap.Nodes.All() {
		if name != id.Node && node.Spec.BGPAddresses().Has(addr) {
			return fmt.Errorf("address %s is held by node %q in the datastore: delete that Node if it is gone, or give this node another address with %s", addr, name, flagFor(addr))
		}
	}
	return nil
}
