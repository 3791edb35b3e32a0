// SPDX-License-Identifier: Apache-2.0

// Package autodetect chooses the node's own address among those of the host. It is pure but for
// can-reach, which asks the caller for the source address that the kernel would use. It looks no names
// up: whoever chooses must not wait for a name server.
package autodetect

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"korat/api"
	"korat/felix/dataplane"
)

// excluded are the interfaces that first-found and cidr never take: those that container runtimes, other
// networks and we ourselves make. (Calico's list.)
var excluded = regexp.MustCompile(`^(docker|cbr|dummy|virbr|lxcbr|veth|lo$|cali|tunl|flannel|kube-ipvs|cni|vxlan\.calico|vxlan-v6\.calico|wireguard\.cali|wg-v6\.cali|nodelocaldns|br-)`)

// Method is one way to choose an address of one family. The zero Method is no way at all.
type Method struct {
	family     api.Family
	text       string
	interfaces *regexp.Regexp
	skip       *regexp.Regexp
	within     []netip.Prefix
	reach      netip.Addr
}

// FirstFound is the method that is used where nothing is said.
func FirstFound(family api.Family) Method { return Method{family: family} }

// IsZero says that there is no way.
func (m Method) IsZero() bool { return m.family == 0 }

// String gives the method as it was written.
func (m Method) String() string { return cmp.Or(m.text, "first-found") }

// Parse reads "first-found", "can-reach=ADDRESS", "interface=REGEX[,REGEX…]",
// "skip-interface=REGEX[,REGEX…]" or "cidr=CIDR[,CIDR…]".
func Parse(text string, family api.Family) (Method, error) {
	m := Method{family: family, text: text}
	name, value, hasValue := strings.Cut(text, "=")
	if hasValue && value == "" {
		return m, fmt.Errorf("address autodetection method %q: nothing after =", text)
	}
	var err error
	switch {
	case text == "" || text == "first-found":
	case name == "can-reach" && hasValue:
		m.reach, err = reachable(value, family)
	case name == "interface" && hasValue:
		m.interfaces, err = anyOf(value)
	case name == "skip-interface" && hasValue:
		m.skip, err = anyOf(value)
	case name == "cidr" && hasValue:
		m.within, err = prefixes(value, family)
	default:
		return m, fmt.Errorf("address autodetection method %q: want first-found, can-reach=ADDRESS, interface=REGEX, skip-interface=REGEX or cidr=CIDR", text)
	}
	if err != nil {
		return m, fmt.Errorf("address autodetection method %q: %w", text, err)
	}
	return m, nil
}

func reachable(text string, family api.Family) (netip.Addr, error) {
	addr, err := netip.ParseAddr(text)
	if err != nil || !family.Has(addr) || addr.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("%q is no %s address: names are not looked up", text, family)
	}
	return addr, nil
}

func anyOf(list string) (*regexp.Regexp, error) {
	return regexp.Compile("^(" + strings.ReplaceAll(list, ",", "|") + ")$")
}

func prefixes(list string, family api.Family) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for text := range strings.SplitSeq(list, ",") {
		p, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			return nil, err
		}
		if !family.Has(p.Addr()) {
			return nil, fmt.Errorf("%q is no %s CIDR", text, family)
		}
		all = append(all, p.Masked())
	}
	return all, nil
}

// Choice is an address with the interface that carries it.
type Choice struct {
	Interface string
	Address   netip.Prefix
}

// Choose picks the node's address: candidates are the addresses of running interfaces, in the
// order of interface index and then the kernel's own. source gives the address that the kernel
// would send from to another; only can-reach calls it.
func (m Method) Choose(host dataplane.Host, source func(dest netip.Addr) (netip.Addr, error)) (Choice, error) {
	all := addresses(host, func(l dataplane.HostLink, a netip.Addr) bool {
		return l.Running && m.family.Has(a) && !slices.Contains(l.Unsettled, a)
	})
	if m.reach.IsValid() {
		c, err := m.reaching(all, source)
		if err != nil {
			return c, fmt.Errorf("method %s: %w: %s", m, err, m.list(all, host))
		}
		return c, nil
	}
	for _, c := range all {
		if m.accepts(c) {
			return c, nil
		}
	}
	among := " among "
	if len(all) == 0 {
		among = ": "
	}
	return Choice{}, fmt.Errorf("no address found by method %s%s%s: set the address with %s, or another %[4]s-autodetection-method",
		m, among, m.list(all, host), Flag(m.family))
}

// Flag names the setting of a node's address.
func Flag(family api.Family) string {
	if family == api.IPv6 {
		return "--ip6"
	}
	return "--ip"
}

func (m Method) accepts(c Choice) bool {
	switch {
	case m.interfaces != nil:
		return m.interfaces.MatchString(c.Interface)
	case excluded.MatchString(c.Interface):
		return false
	case m.skip != nil:
		return !m.skip.MatchString(c.Interface)
	case m.within != nil:
		return slices.ContainsFunc(m.within, func(p netip.Prefix) bool { return p.Contains(c.Address.Addr()) })
	}
	return true
}

func (m Method) reaching(all []Choice, source func(netip.Addr) (netip.Addr, error)) (Choice, error) {
	addr, err := source(m.reach)
	if err != nil {
		return Choice{}, err
	}
	for _, c := range all {
		if c.Address.Addr() == addr {
			return c, nil
		}
	}
	return Choice{}, fmt.Errorf("the kernel would send from %s, which no running interface carries", addr)
}

// Find gives the running interface that carries addr, if any does.
func Find(host dataplane.Host, addr netip.Addr) (Choice, bool) {
	return carrier(host, addr, func(l dataplane.HostLink) bool { return l.Running })
}

// FindAny gives the interface that carries addr, running or not: an address outlives the loss of its link.
func FindAny(host dataplane.Host, addr netip.Addr) (Choice, bool) {
	if c, ok := Find(host, addr); ok {
		return c, true
	}
	return carrier(host, addr, func(dataplane.HostLink) bool { return true })
}

// carrier gives the first interface by index that carries addr, of those for which take is true. Each pass asks for one, on a
// host that may have hundreds of interfaces: it sorts nothing.
func carrier(host dataplane.Host, addr netip.Addr, take func(dataplane.HostLink) bool) (first Choice, found bool) {
	if !possible(addr) {
		return Choice{}, false
	}
	for name, link := range host.Links {
		i := slices.IndexFunc(link.Addresses, func(p netip.Prefix) bool { return p.Addr() == addr })
		if i >= 0 && take(link) && (!found || link.Index < host.Links[first.Interface].Index) {
			first, found = Choice{name, link.Addresses[i]}, true
		}
	}
	return first, found
}

// possible says whether an address can be a node's.
func possible(a netip.Addr) bool { return !a.IsLoopback() && !a.IsLinkLocalUnicast() }

// addresses gives what a node's address can be, as far as take is true.
func addresses(host dataplane.Host, take func(dataplane.HostLink, netip.Addr) bool) []Choice {
	names := make([]string, 0, len(host.Links))
	for name := range host.Links {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(host.Links[a].Index, host.Links[b].Index) })
	var all []Choice
	for _, name := range names {
		link := host.Links[name]
		for _, p := range link.Addresses {
			if a := p.Addr(); possible(a) && take(link, a) {
				all = append(all, Choice{name, p})
			}
		}
	}
	return all
}

func (m Method) list(all []Choice, host dataplane.Host) string {
	switch {
	case len(all) > 0:
	case m.family == api.IPv4:
		return "no IPv4 address on any running interface"
	case !host.HasIPv6():
		return "no IPv6 address, as this kernel has no IPv6 (was it started with ipv6.disable=1?)"
	default:
		return "no IPv6 address on any running interface, but for link-local, temporary, tentative and deprecated ones (is the sysctl disable_ipv6 of its interface 1?)"
	}
	var words []string
	for _, c := range all {
		words = append(words, c.Interface+" "+c.Address.String())
	}
	return strings.Join(words, ", ")
}
