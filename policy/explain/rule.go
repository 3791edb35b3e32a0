// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"korat/api"
	"korat/policy"
	"korat/policy/selector"
)

// evaluation judges one flow.
type evaluation struct {
	*World
	flow *Flow
	// words says that reasons are wanted; why is that of the last rule that did not match.
	words bool
	why   string
}

// no is the answer of a rule that does not match, with the reason. Where no words are wanted it is not called: most of
// the cost would be its arguments.
func (e *evaluation) no(format string, args ...any) bool {
	e.why = fmt.Sprintf(format, args...)
	return false
}

// matches says whether the rule is for the packet; if not, e.why says why not.
func (e *evaluation) matches(r *policy.Rule) bool {
	f := e.flow
	if r.Family != 0 && r.Family != f.family() {
		return e.words && e.no("the packet is %s, not %s", f.family(), r.Family)
	}
	if r.Protocol != 0 && (r.Protocol != f.Protocol || foreign(f)) {
		return e.words && e.no("protocol is %s, not %s", f.Protocol, r.Protocol)
	}
	if r.NotProtocol != 0 && r.NotProtocol == f.Protocol {
		return e.words && e.no("protocol is %s, which is excluded", f.Protocol)
	}
	if !e.icmp(r) {
		return false
	}
	return e.end(source, &r.Source) && e.end(destination, &r.Destination)
}

// foreign says whether the packet has the ICMP of the other family, which no rule means.
func foreign(f *Flow) bool {
	return f.Protocol == policy.ICMP && f.family() == api.IPv6 || f.Protocol == policy.ICMPv6 && f.family() == api.IPv4
}

func (e *evaluation) icmp(r *policy.Rule) bool {
	if r.ICMP == nil && r.NotICMP == nil {
		return true
	}
	f := e.flow
	if f.Protocol != policy.ICMP && f.Protocol != policy.ICMPv6 || foreign(f) {
		return e.words && e.no("protocol is %s, which has no ICMP types", f.Protocol)
	}
	if r.ICMP != nil && !isICMP(f.ICMP, r.ICMP) {
		return e.words && e.no("ICMP message is %s, not %s", icmp(f.ICMP), icmp(*r.ICMP))
	}
	if r.NotICMP != nil && isICMP(f.ICMP, r.NotICMP) {
		return e.words && e.no("ICMP message is %s, which is excluded", icmp(f.ICMP))
	}
	return true
}

func isICMP(have policy.ICMPType, want *policy.ICMPType) bool {
	return have.Type == want.Type && (want.Code < 0 || have.Code == want.Code)
}

// side is an end of the packet, by its name.
type side string

const (
	source      side = "source"
	destination side = "destination"
)

// end matches one end of the packet.
func (e *evaluation) end(s side, want *policy.Entity) bool {
	addr, port := e.flow.From.Address, e.flow.SourcePort
	if s == destination {
		addr, port = e.flow.To.Address, e.flow.DestinationPort
	}
	return e.nets(s, addr, want) && e.selected(s, addr, want) && e.service(s, addr, want) && e.ports(s, addr, port, want)
}

func (e *evaluation) nets(s side, addr netip.Addr, want *policy.Entity) bool {
	within := func(p netip.Prefix) bool { return p.Contains(addr) }
	if len(want.Nets) > 0 && !slices.ContainsFunc(want.Nets, within) {
		return e.words && e.no("%s %s is not in %s", s, e.who(addr), nets(want.Nets))
	}
	if i := slices.IndexFunc(want.NotNets, within); i >= 0 {
		return e.words && e.no("%s %s is in %s, which is excluded", s, e.who(addr), want.NotNets[i])
	}
	return true
}

func (e *evaluation) selected(s side, addr netip.Addr, want *policy.Entity) bool {
	if want.Selector != nil && !e.has(addr, *want.Selector) {
		return e.words && e.no("%s %s does not match %s", s, e.who(addr), want.Selector)
	}
	if want.NotSelector != nil && e.has(addr, *want.NotSelector) {
		return e.words && e.no("%s %s matches %s, which is excluded", s, e.who(addr), want.NotSelector)
	}
	return true
}

// has says whether somebody with the address is selected.
func (e *evaluation) has(addr netip.Addr, sel selector.Selector) bool {
	return slices.ContainsFunc(e.known(addr), func(it *item) bool { return sel.Matches(it.labels) })
}

func (e *evaluation) service(s side, addr netip.Addr, want *policy.Entity) bool {
	if want.Service == nil {
		return true
	}
	f := e.flow
	if slices.ContainsFunc(e.parts.Services[*want.Service], func(b ServiceEndpoint) bool {
		return b.Address == addr && (s == source || b.Protocol != 0 && b.Protocol == f.Protocol && b.Port == f.DestinationPort)
	}) {
		return true
	}
	if s == source {
		return e.words && e.no("source %s is not an endpoint of service %s/%s", e.who(addr), want.Service.Namespace, want.Service.Name)
	}
	return e.words && e.no("destination %s, %s port %d is not an endpoint of service %s/%s", e.who(addr), f.Protocol, f.DestinationPort,
		want.Service.Namespace, want.Service.Name)
}

func (e *evaluation) ports(s side, addr netip.Addr, port uint16, want *policy.Entity) bool {
	within := func(r policy.PortRange) bool { return r.First <= port && port <= r.Last }
	positive := len(want.Ports)+len(want.NamedPorts) > 0
	if positive && !hasPorts(e.flow.Protocol) {
		return e.words && e.no("protocol is %s, which has no ports", e.flow.Protocol)
	}
	named := func(name string) bool { return e.named(addr, port, name, want.Selector) }
	if positive && !slices.ContainsFunc(want.Ports, within) && !slices.ContainsFunc(want.NamedPorts, named) {
		return e.words && e.no("%s port %d is not %s", s, port, portList{e.World, addr, want.Ports, want.NamedPorts})
	}
	if !hasPorts(e.flow.Protocol) {
		return true
	}
	excluded := func(name string) bool { return e.named(addr, port, name, nil) }
	if slices.ContainsFunc(want.NotPorts, within) {
		return e.words && e.no("%s port %d is excluded", s, port)
	}
	if i := slices.IndexFunc(want.NotNamedPorts, excluded); i >= 0 {
		return e.words && e.no("%s port %d is %s, which is excluded", s, port, want.NotNamedPorts[i])
	}
	return true
}

// named says whether somebody with the address, who is selected, calls the port by the name.
func (e *evaluation) named(addr netip.Addr, port uint16, name string, sel *selector.Selector) bool {
	return slices.ContainsFunc(e.known(addr), func(it *item) bool {
		return slices.Contains(it.ports, policy.NamedPort{Name: name, Protocol: e.flow.Protocol, Port: port}) &&
			(sel == nil || sel.Matches(it.labels))
	})
}

// who gives an address with the names of those that have it.
func (w *World) who(addr netip.Addr) string {
	var names []string
	for _, it := range w.known(addr) {
		names = append(names, it.name)
	}
	if len(names) == 0 {
		return addr.String()
	}
	return addr.String() + " (" + strings.Join(names, ", ") + ")"
}
