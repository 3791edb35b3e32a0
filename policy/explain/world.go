// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"korat/policy"
)

// Parts is what a World is made of.
type Parts struct {
	// Tiers need not name those that always exist.
	Tiers     []policy.Tier
	Policies  []*policy.Policy
	Profiles  []*policy.Profile
	Endpoints []Endpoint
	Sets      []NetworkSet
	Nodes     []Node
	// Doubts are what is not known; nil if all is.
	Doubts *policy.Doubts
	// Services are the endpoints behind services that rules name.
	Services map[policy.Service][]ServiceEndpoint
	// Failsafe ports of host endpoints are open whatever policies say.
	FailsafeInbound, FailsafeOutbound []Failsafe
	Settings
}

// Settings are what decides besides policies.
type Settings struct {
	// EndpointToHost is Drop, Return or Accept [Return]: what becomes of a packet from a pod to its own node.
	EndpointToHost string
	// ServiceCIDRs are where nothing is forwarded to: what is for a service has another destination by then.
	ServiceCIDRs []netip.Prefix
	// Pools are the ranges of pods' addresses.
	Pools []policy.Pool
}

// Endpoint is an interface that policies are for: a pod's, or with Host one of a node's own.
type Endpoint struct {
	policy.Item
	// Profiles have the rules for what no policy applies to. The labels are those of the Item's Parents.
	Profiles []string
	// Namespace and Name are those of the pod; of a host endpoint the Name is the object's.
	Namespace, Name string
	Host            bool
	Node            string
	// Interface is the interface of the node: of a pod "cali…", of a host endpoint its name, "*" for all but
	// those of pods, or empty for that with one of the Prefixes.
	Interface string
}

// String gives "default/web" or "host endpoint uplink".
func (e *Endpoint) String() string {
	if e.Host {
		return "host endpoint " + e.Name
	}
	return e.Namespace + "/" + e.Name
}

// has says whether the address is one of the endpoint's.
func (e *Endpoint) has(addr netip.Addr) bool {
	return slices.ContainsFunc(e.Prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// NetworkSet is prefixes with labels. Namespace is empty for a GlobalNetworkSet.
type NetworkSet struct {
	policy.Item
	Namespace, Name string
}

// Node is a host of the cluster.
type Node struct {
	Name      string
	Addresses []netip.Addr
}

// ServiceEndpoint is one address behind a service. As a destination it has a protocol and a port.
type ServiceEndpoint struct {
	Address  netip.Addr
	Protocol policy.Protocol
	Port     uint16
}

// Failsafe is a port that stays open on host endpoints.
type Failsafe struct {
	Protocol policy.Protocol
	Port     uint16
	// Net limits it to peers with such addresses, if it is valid.
	Net netip.Prefix
}

// World is what is known of a cluster at one time. It remembers what it has found out, so it must not be used by two
// goroutines at once.
type World struct {
	parts    Parts
	tiers    []policy.Tier
	policies map[string][]*policy.Policy // by tier, as they are evaluated
	profiles map[string]*policy.Profile
	// byPlace are the endpoints at a node's interface, hosts those of nodes by name, and byAddress who has an address.
	byPlace   map[place]*Endpoint
	hosts     map[string][]*Endpoint
	byAddress map[netip.Addr][]*item
	wide      []*item // those with prefixes of more than one address
	// What has been found out so far.
	items   map[netip.Addr][]*item
	labels  map[*Endpoint]map[string]string
	applied map[appliedKey][]tierPolicies
}

// place is an interface of a node.
type place struct{ node, iface string }

// item is an endpoint or network set as rules see it, with the labels that it inherits.
type item struct {
	labels   map[string]string
	prefixes []netip.Prefix
	ports    []policy.NamedPort
	name     string
}

// New gives the World of the parts, which must not be changed any more.
func New(p Parts) *World {
	w := &World{
		parts: p, tiers: tiersOf(p), policies: map[string][]*policy.Policy{}, profiles: map[string]*policy.Profile{},
		byPlace: map[place]*Endpoint{}, hosts: map[string][]*Endpoint{}, byAddress: map[netip.Addr][]*item{},
		items: map[netip.Addr][]*item{}, labels: map[*Endpoint]map[string]string{}, applied: map[appliedKey][]tierPolicies{},
	}
	for _, pol := range p.Policies {
		w.policies[pol.Tier] = append(w.policies[pol.Tier], p.Doubts.Policy(pol))
	}
	for _, pols := range w.policies {
		slices.SortFunc(pols, (*policy.Policy).Compare)
	}
	for _, prof := range p.Profiles {
		w.profiles[prof.Name] = p.Doubts.Profile(prof)
	}
	for i := range p.Endpoints {
		ep := &p.Endpoints[i]
		w.byPlace[place{ep.Node, ep.Interface}] = ep
		if ep.Host {
			w.hosts[ep.Node] = append(w.hosts[ep.Node], ep)
		}
		w.add(ep.Item, ep.String())
		w.labels[ep] = w.inherited(ep.Item)
	}
	for _, all := range w.hosts {
		slices.SortFunc(all, func(a, b *Endpoint) int { return strings.Compare(a.Name, b.Name) })
	}
	for _, set := range p.Sets {
		name := "GlobalNetworkSet " + set.Name
		if set.Namespace != "" {
			name = "NetworkSet " + set.Namespace + "/" + set.Name
		}
		w.add(set.Item, name)
	}
	return w
}

// tiersOf adds those that always exist, and those that policies name without their being there, and puts them all in order.
func tiersOf(p Parts) []policy.Tier {
	tiers := slices.Clone(p.Tiers)
	add := func(t policy.Tier) {
		if !slices.ContainsFunc(tiers, func(have policy.Tier) bool { return have.Name == t.Name }) {
			tiers = append(tiers, t)
		}
	}
	for _, t := range policy.BuiltInTiers() {
		add(t)
	}
	for _, pol := range p.Policies {
		add(policy.ImpliedTier(pol.Tier))
	}
	slices.SortFunc(tiers, policy.Tier.Compare)
	return tiers
}

// profile gives the named one, nil if there is none. That of a namespace always exists.
func (w *World) profile(name string) *policy.Profile {
	prof, ok := w.profiles[name]
	if !ok {
		prof = policy.Implied(name)
		w.profiles[name] = prof
	}
	return prof
}

// add makes an item known by its addresses, unless its labels are not.
func (w *World) add(it policy.Item, name string) {
	if !it.Doubt.Labelled() {
		return
	}
	known := &item{w.inherited(it), it.Prefixes, it.Ports, name}
	wide := false
	for _, p := range it.Prefixes {
		if p.IsSingleIP() {
			w.byAddress[p.Addr()] = append(w.byAddress[p.Addr()], known)
		} else {
			wide = true
		}
	}
	if wide {
		w.wide = append(w.wide, known)
	}
}

// inherited gives an item's labels with those of its profiles: its own win, then those of the first.
func (w *World) inherited(it policy.Item) map[string]string {
	all := maps.Clone(it.Labels)
	if all == nil {
		all = map[string]string{}
	}
	for _, parent := range it.Parents {
		prof := w.profile(parent)
		if prof == nil {
			continue
		}
		for key, value := range prof.Labels {
			if _, has := all[key]; !has {
				all[key] = value
			}
		}
	}
	return all
}

// known gives the endpoints and network sets that have the address.
func (w *World) known(addr netip.Addr) []*item {
	found, ok := w.items[addr]
	if ok {
		return found
	}
	found = slices.Clone(w.byAddress[addr])
	for _, it := range w.wide {
		if !slices.Contains(found, it) && slices.ContainsFunc(it.prefixes, func(p netip.Prefix) bool { return p.Contains(addr) }) {
			found = append(found, it)
		}
	}
	w.items[addr] = found
	return found
}
