// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"korat/api"
	"korat/felix/endpoint"
)

// Pod is one of the nine.
type Pod struct {
	Namespace, Name string
	// Host is "a" or "b": each namespace has pods on both.
	Host string
	// Number is 1 to 9.
	Number int
}

// Place is the pod's.
func (p Pod) Place() Place { return Place(p.Namespace + "/" + p.Name) }

// Labels are those that the pod begins with.
func (p Pod) Labels() map[string]string { return map[string]string{"pod": p.Name} }

// Ports are the pod's named ports. The name "web" is of another port in each namespace, and of none in z.
func (p Pod) Ports() []endpoint.Port {
	var all []endpoint.Port
	for _, protocol := range Protocols() {
		for _, port := range Ports() {
			name := fmt.Sprintf("serve-%d-%s", port, strings.ToLower(protocol))
			all = append(all, endpoint.Port{Name: name, Protocol: protocol, Port: port})
		}
	}
	if port := map[string]uint16{"x": 80, "y": 81}[p.Namespace]; port != 0 {
		all = append(all, endpoint.Port{Name: "web", Protocol: "TCP", Port: port})
	}
	return all
}

// Namespaces are x, y and z. Each has its own name for the label "ns".
func Namespaces() []string { return []string{"x", "y", "z"} }

// Hosts are a and b.
func Hosts() []string { return []string{"a", "b"} }

// Pods lists the nine, one on each host in turn.
func Pods() []Pod {
	var all []Pod
	for _, namespace := range Namespaces() {
		for _, name := range []string{"a", "b", "c"} {
			all = append(all, Pod{namespace, name, Hosts()[len(all)%2], len(all) + 1})
		}
	}
	return all
}

// Place is an end of flows: a pod, "x/a", or a host, "host/a".
type Place string

// Host gives the host's name, if the Place is one.
func (p Place) Host() (name string, ok bool) { return strings.CutPrefix(string(p), "host/") }

// Places lists the pods and then the hosts.
func Places() []Place {
	var all []Place
	for _, p := range Pods() {
		all = append(all, p.Place())
	}
	for _, h := range Hosts() {
		all = append(all, Place("host/"+h))
	}
	return all
}

// node gives the host that a Place is on, or is.
func (p Place) node() string {
	if host, ok := p.Host(); ok {
		return host
	}
	all := Pods()
	return all[slices.IndexFunc(all, func(pod Pod) bool { return pod.Place() == p })].Host
}

// Pool is what pods have addresses of.
func Pool(f api.Family) netip.Prefix {
	if f == api.IPv4 {
		return netip.MustParsePrefix("172.17.0.0/16")
	}
	return netip.MustParsePrefix("fd00:172:17::/48")
}

// Block is what the pods of a host have addresses of: one of the pool's blocks, of its usual size.
func Block(host string, f api.Family) netip.Prefix {
	i := slices.Index(Hosts(), host)
	if f == api.IPv4 {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 17, byte(100 + i), 0}), 24)
	}
	return netip.MustParsePrefix(fmt.Sprintf("fd00:172:17::%d:0/122", 100+i))
}

// Address gives the address of a Place: of hosts those that package lab gives them.
func (p Place) Address(f api.Family) netip.Addr {
	if host, ok := p.Host(); ok {
		i := slices.Index(Hosts(), host)
		if f == api.IPv4 {
			return netip.AddrFrom4([4]byte{192, 168, 100, byte(100 + i)})
		}
		return netip.MustParseAddr(fmt.Sprintf("fd00:192:168::%d", 100+i))
	}
	for _, pod := range Pods() {
		if pod.Place() == p {
			bytes := Block(pod.Host, f).Addr().AsSlice()
			bytes[len(bytes)-1] = byte(pod.Number)
			addr, _ := netip.AddrFromSlice(bytes)
			return addr
		}
	}
	return netip.Addr{}
}

// Protocols are those of the flows.
func Protocols() []string { return []string{"TCP", "UDP", "SCTP"} }

// Ports are those of the flows.
func Ports() []uint16 { return []uint16{80, 81} }

// replaced puts the CIDRs of a family in place of what stands for them, in quotes: "::/0" is no plain scalar of YAML.
func replaced(text string, f api.Family) (string, error) {
	var pairs []string
	add := func(name string, cidr netip.Prefix) { pairs = append(pairs, "$("+name+")", `"`+cidr.String()+`"`) }
	add("pods", Pool(f))
	add("all", netip.PrefixFrom(Pool(f).Addr(), 0).Masked())
	for _, h := range Hosts() {
		add("pods/"+h, Block(h, f))
	}
	for _, p := range Places() {
		addr := p.Address(f)
		add(string(p), netip.PrefixFrom(addr, addr.BitLen()))
	}
	text = strings.NewReplacer(pairs...).Replace(text)
	if _, after, found := strings.Cut(text, "$("); found {
		name, _, _ := strings.Cut(after, ")")
		return "", fmt.Errorf("$(%s) stands for nothing", name)
	}
	return text, nil
}
