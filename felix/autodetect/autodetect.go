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

	"korat/felix/dataplane"
)

// excluded are the interfaces that first-found and cidr never take: those that container runtimes, other
// networks and we ourselves make. (Calico's list.)
var excluded = regexp.MustCompile(`^(docker|cbr|dummy|virbr|lxcbr|veth|lo$|cali|tunl|flannel|kube-ipvs|cni|vxlan\.calico|vxlan-v6\.calico|wireguard\.cali|wg-v6\.cali|nodelocaldns|br-)`)

// Method is one way to choose; the zero Method is first-found.
type Method struct {
	text       string
	interfaces *regexp.Regexp
	skip       *regexp.Regexp
	within     []netip.Prefix
	reach      netip.Addr
}

// String gives the method as it was written.
func (m Method) String() string { return cmp.Or(m.text, "first-found") }

// Parse reads "first-found", "can-reach=ADDRESS", "interface=REGEX[,REGEX…]",
// "skip-interface=REGEX[,REGEX…]" or "cidr=CIDR[,CIDR…]".
func Parse(text string) (Method, error) {
	m := Method{text: text}
	name, value, hasValue := strings.Cut(text, "=")
	if hasValue && value == "" {
		return m, fmt.Errorf("address autodetection method %q: nothing after =", text)
	}
	var err error
	switch {
	case text == "" || text == "first-found":
	case name == "can-reach" && hasValue:
		m.reach, err = reachable(value)
	case name == "interface" && hasValue:
		m.interfaces, err = anyOf(value)
	case name == "skip-interface" && hasValue:
		m.skip, err = anyOf(value)
	case name == "cidr" && hasValue:
		m.within, err = prefixes(value)
	default:
		return m, fmt.Errorf("address autodetection method %q: want first-found, can-reach=ADDRESS, interface=REGEX, skip-interface=REGEX or cidr=CIDR", text)
	}
	if err != nil {
		return m, fmt.Errorf("address autodetection method %q: %w", text, err)
	}
	return m, nil
}

func reachable(text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(text)
	if err != nil || !addr.Is4() {
		return netip.Addr{}, fmt.Errorf("%q is no IPv4 address: names are not looked up", text)
	}
	return addr, nil
}

func anyOf(list string) (*regexp.Regexp, error) {
	return regexp.Compile("^(" + strings.ReplaceAll(list, ",", "|") + ")$")
}

func prefixes(list string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for text := range strings.SplitSeq(list, ",") {
		p, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			return nil, err
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

// Choose picks the node's IPv4 address: candidates are the addresses of running interfaces, in the
// order of interface index and then the kernel's own. source gives the address that the kernel
// would send from to another; only can-reach calls it.
func (m Method) Choose(host dataplane.Host, source func(dest netip.Addr) (netip.Addr, error)) (Choice, error) {
	all := candidates(host)
	if m.reach.IsValid() {
		return m.reaching(all, source)
	}
	for _, c := range all {
		if m.accepts(c) {
			return c, nil
		}
	}
	return Choice{}, fmt.Errorf("no address found by method %s among %s: set the address with --ip, or another --ip-autodetection-method",
		m, list(all))
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
		return Choice{}, fmt.Errorf("method %s: %w", m, err)
	}
	for _, c := range all {
		if c.Address.Addr() == addr {
			return c, nil
		}
	}
	return Choice{}, fmt.Errorf("method %s: the kernel would send from %s, which no running interface carries: %s", m, addr, list(all))
}

// Find gives the running interface that carries addr, if any does.
func Find(host dataplane.Host, addr netip.Addr) (Choice, bool) {
	return carrier(candidates(host), addr)
}

// FindAny gives the interface that carries addr, running or not: an address outlives the loss of its link.
func FindAny(host dataplane.Host, addr netip.Addr) (Choice, bool) {
	if c, ok := Find(host, addr); ok {
		return c, true
	}
	return carrier(addresses(host, func(dataplane.HostLink) bool { return true }), addr)
}

func carrier(all []Choice, addr netip.Addr) (Choice, bool) {
	for _, c := range all {
		if c.Address.Addr() == addr {
			return c, true
		}
	}
	return Choice{}, false
}

func candidates(host dataplane.Host) []Choice {
	return addresses(host, func(l dataplane.HostLink) bool { return l.Running })
}

// addresses gives what a node's address can be, of the links for which take is true.
func addresses(host dataplane.Host, take func(dataplane.HostLink) bool) []Choice {
	names := make([]string, 0, len(host.Links))
	for name := range host.Links {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(host.Links[a].Index, host.Links[b].Index) })
	var all []Choice
	for _, name := range names {
		link := host.Links[name]
		if !take(link) {
			continue
		}
		for _, p := range link.Addresses {
			if a := p.Addr(); a.Is4() && !a.IsLoopback() && !a.IsLinkLocalUnicast() {
				all = append(all, Choice{name, p})
			}
		}
	}
	return all
}

func list(all []Choice) string {
	if len(all) == 0 {
		return "no IPv4 address on any running interface"
	}
	var words []string
	for _, c := range all {
		words = append(words, c.Interface+" "+c.Address.String())
	}
	return strings.Join(words, ", ")
}
