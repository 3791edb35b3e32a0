// SPDX-License-Identifier: Apache-2.0

package calc

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"korat/api"
	"korat/felix/dataplane"
	"korat/policy"
	"korat/policy/compile"
)

const (
	// podInterfaces begins the names of pods' interfaces. No host endpoint is for them.
	podInterfaces = "cali"
	// loopback is no interface that a host endpoint has for an address: what a host sends to itself leaves by it, and
	// addresses that are routed to the host as a whole are often there.
	loopback = "lo"
)

// hosts are the host endpoints of this node, and which of its interfaces they are for.
type hosts struct {
	node string
	// own are this node's, by name.
	own map[string]*hostEndpoint
	// links are the host's interfaces, as of generation.
	links      map[string]dataplane.HostLink
	generation uint64
	// told are those that the compiler knows.
	told map[string]compile.Local
	// problems says which are for no interface.
	problems []string
}

// hostEndpoint is a HostEndpoint as policies see it.
type hostEndpoint struct {
	policy.Item
	key api.Key
	// iface is the interface's name or "*"; it is empty for whatever interface has one of the Item's addresses.
	iface string
}

func newHosts(node string) hosts {
	return hosts{node: node, own: map[string]*hostEndpoint{}, told: map[string]compile.Local{}}
}

// Host tells which interfaces the host has, and their addresses. The generation is another one whenever they are not as
// they were; telling the same again costs nothing.
func (f *Filter) Host(host dataplane.Host, generation uint64) {
	if h := &f.hosts; h.generation != generation {
		h.links, h.generation = host.Links, generation
		if h.addressed() {
			f.placeHosts()
		}
	}
}

// addressed says whether any endpoint is for the interface that has an address.
func (h *hosts) addressed() bool {
	for _, e := range h.own {
		if e.iface == "" {
			return true
		}
	}
	return false
}

// hostEndpoint tells of a HostEndpoint: of any node's as something that rules can pick, of this node's also as
// something that policies are for.
func (f *Filter) hostEndpoint(snap api.Snapshot, key api.Key) {
	f.peer(snap, key)
	h := &f.hosts
	o, exists := snap.HostEndpoints.Get(key.Name)
	switch {
	case exists && o.Spec.Node == h.node:
		item := f.item(snap, o)
		h.own[key.Name] = &hostEndpoint{Item: item, key: key, iface: o.Spec.InterfaceName}
	case h.own[key.Name] != nil:
		delete(h.own, key.Name)
	default:
		return
	}
	f.placeHosts()
}

// unknown says whether it is not known which policies are for some of them.
func (h *hosts) unknown() bool {
	for _, e := range h.own {
		if !e.Doubt.Labelled() {
			return true
		}
	}
	return false
}

// placeHosts tells the compiler which endpoints are for which interfaces.
func (f *Filter) placeHosts() {
	h := &f.hosts
	now := h.place()
	if h.unknown() {
		f.compiler.SetPolicy(policy.Closing())
	} else {
		f.compiler.DeletePolicy(policy.Closing().ID)
	}
	for id := range h.told {
		if _, still := now[id]; !still {
			f.compiler.DeleteLocal(id)
		}
	}
	for id, l := range now {
		f.compiler.SetLocal(id, l)
	}
	h.told = now
}

// place gives the endpoints by the interfaces that they are for: those that name theirs, then those that have an
// address there. An interface has one; of several the first by name.
func (h *hosts) place() map[string]compile.Local {
	h.problems = nil
	locals := map[string]compile.Local{}
	taken := map[string]*hostEndpoint{}
	take := func(e *hostEndpoint, iface string) {
		if first := taken[iface]; first != nil {
			h.problem(e, "interface %s is that of %s already, which is the one that counts: remove one of them", iface, first.key)
			return
		}
		taken[iface] = e
		l := compile.Local{Interface: iface, Host: true, Labels: e.Labels, Parents: e.Parents, Profiles: e.Parents}
		if !e.Doubt.Labelled() {
			l.Labels, l.Parents, l.Profiles = map[string]string{policy.LabelUnknown: ""}, nil, nil
		}
		locals[localID(e, iface)] = l
	}
	names := slices.Sorted(maps.Keys(h.own))
	for _, name := range names {
		if e := h.own[name]; e.iface != "" {
			take(e, e.iface)
		}
	}
	for _, name := range names {
		e := h.own[name]
		if e.iface != "" {
			continue
		}
		found := h.interfaces(e.Prefixes)
		for _, iface := range found {
			take(e, iface)
		}
		if len(found) == 0 {
			h.problem(e, "no interface of this node has one of its expectedIPs: it is not in force")
		}
	}
	return locals
}

// localID is that of an endpoint at an interface.
func localID(e *hostEndpoint, iface string) string { return e.key.String() + " " + iface }

func (h *hosts) problem(e *hostEndpoint, format string, args ...any) {
	h.problems = append(h.problems, fmt.Sprintf("policy: %s: ", e.key)+fmt.Sprintf(format, args...))
}

// interfaces gives the interfaces that have one of the addresses, in the order of their names.
func (h *hosts) interfaces(addresses []netip.Prefix) []string {
	var found []string
	for name, link := range h.links {
		own := func(p netip.Prefix) bool {
			return slices.ContainsFunc(addresses, func(a netip.Prefix) bool { return a.Addr() == p.Addr() })
		}
		if name != loopback && !strings.HasPrefix(name, podInterfaces) && slices.ContainsFunc(link.Addresses, own) {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return found
}
