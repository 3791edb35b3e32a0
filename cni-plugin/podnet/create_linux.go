// SPDX-License-Identifier: Apache-2.0

package podnet

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"korat/felix/endpoint"
)

// Create makes the pair and the pod's side, all of it or nothing. If the very pair exists, in order, it
// stays; what an earlier attachment of the same pod left under the host's name is replaced.
func Create(want Pair) (Made, error) {
	if err := checkWanted(want); err != nil {
		return Made{}, err
	}
	e, err := openEdge(want.NetNS)
	if err != nil {
		return Made{}, err
	}
	defer e.close()
	return e.create(want, steps())
}

// minMTUIPv6 is the smallest MTU that the kernel gives an interface IPv6 with. (RFC 8200, section 5)
const minMTUIPv6 = 1280

func checkWanted(want Pair) error {
	if want.MTU != 0 && want.MTU < minMTUIPv6 && slices.Contains(want.families(), ipv6()) {
		return fmt.Errorf("MTU %d of %s: it is too small for IPv6: want at least %d", want.MTU, want.Interface, minMTUIPv6)
	}
	return nil
}

func (e *edge) create(want Pair, steps []step) (Made, error) {
	mac, err := podMAC(want.MAC)
	if err != nil {
		return Made{}, err
	}
	host, err := e.addPair(want, mac)
	if errors.Is(err, unix.EEXIST) {
		have, found, clearErr := e.clear(want)
		if clearErr != nil || found {
			return have, clearErr
		}
		host, err = e.addPair(want, mac)
	}
	if err != nil {
		return Made{}, fmt.Errorf("create %s and, in %s, %s: %w", want.Interface, want.NetNS, want.IfName, err)
	}
	if err := e.complete(want, host, steps); err != nil {
		return Made{}, errors.Join(err, remove(e.host, host))
	}
	return Made{MAC: mac.String(), New: true}, nil
}

// addPair makes both ends where they belong with one message. Making them here and moving one costs
// two RCU grace periods more. They cannot be made up: each needs the other for its carrier.
func (e *edge) addPair(want Pair, mac net.HardwareAddr) (host netlink.Link, err error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = want.Interface
	attrs.MTU = want.MTU
	attrs.HardwareAddr = hostMAC()
	veth := &netlink.Veth{
		LinkAttrs:        attrs,
		PeerName:         want.IfName,
		PeerHardwareAddr: mac,
		PeerNamespace:    netlink.NsFd(e.ns),
		PeerMTU:          uint32(want.MTU),
		PeerTxQLen:       -1, // the kernel's default
	}
	return veth, e.host.LinkAdd(veth)
}

func hostMAC() net.HardwareAddr { return net.HardwareAddr{0xee, 0xee, 0xee, 0xee, 0xee, 0xee} }

// podMAC gives the wanted address, or a random one: locally administered, unicast. (IEEE 802)
func podMAC(want string) (net.HardwareAddr, error) {
	if want != "" {
		return net.ParseMAC(want)
	}
	mac := make(net.HardwareAddr, 6)
	if _, err := rand.Read(mac); err != nil {
		return nil, fmt.Errorf("make a MAC address: %w", err)
	}
	mac[0] = mac[0]&^0x01 | 0x02
	return mac, nil
}

// making is a pair that exists and is being set up.
type making struct {
	edge *edge
	want Pair
	host netlink.Link
	pod  netlink.Link
}

// step is one thing that is done to a new pair.
type step struct {
	action string
	run    func(m *making) error
}

// steps lists what makes a bare pair the pod's. The alias is first: until it is set, only name, MAC and
// being down tell whose the pair is.
func steps() []step {
	return []step{
		{"set the alias of the host's side", func(m *making) error {
			return m.edge.host.LinkSetAlias(m.host, endpoint.FormatAlias(m.want.Alias()))
		}},
		{"set the host's side up", func(m *making) error { return m.edge.host.LinkSetUp(m.host) }},
		{"set the pod's loopback up", setLoopbackUp},
		{"set the pod's sysctls", func(m *making) error { return m.edge.setSysctls(sysctls(m.want)) }},
		{"set the pod's side up", func(m *making) error { return m.edge.pod.LinkSetUp(m.pod) }},
		{"add the pod's addresses", addAddresses},
		{"add the route to the gateway", forEach(family.addGatewayRoute)},
		{"add the default route", forEach(family.addDefaultRoute)},
		{"add the gateway's neighbour entry", forEach(family.addNeighbour)},
		{"wait for the kernel", settle},
	}
}

// complete takes the steps.
func (e *edge) complete(want Pair, host netlink.Link, steps []step) error {
	pod, err := e.pod.LinkByName(want.IfName)
	if err != nil {
		return fmt.Errorf("read interface %s in %s: %w", want.IfName, want.NetNS, err)
	}
	m := &making{edge: e, want: want, host: host, pod: pod}
	for _, s := range steps {
		if err := s.run(m); err != nil {
			return fmt.Errorf("%s (%s, %s in %s): %w", s.action, want.Interface, want.IfName, want.NetNS, err)
		}
	}
	return nil
}

// setLoopbackUp relies on a namespace's loopback always being its first interface. (Linux, LOOPBACK_IFINDEX)
func setLoopbackUp(m *making) error {
	return m.edge.pod.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "lo", Index: 1}})
}

func addAddresses(m *making) error {
	for _, addr := range m.want.Addresses {
		a := &netlink.Addr{IPNet: hostNet(addr), Flags: familyOf(addr).addressFlags}
		if err := m.edge.pod.AddrAdd(m.pod, a); err != nil {
			return fmt.Errorf("%s: %w", addr, err)
		}
	}
	return nil
}

// forEach makes a step that is taken for each of the pod's families.
func forEach(add func(f family, m *making) error) func(m *making) error {
	return func(m *making) error {
		for _, f := range m.want.families() {
			if err := add(f, m); err != nil {
				return fmt.Errorf("%s: %w", f.gateway, err)
			}
		}
		return nil
	}
}

func (f family) addGatewayRoute(m *making) error {
	return f.addRoute(m, netlink.Route{LinkIndex: m.pod.Attrs().Index, Dst: hostNet(f.gateway), Scope: netlink.SCOPE_LINK})
}

func (f family) addDefaultRoute(m *making) error {
	return f.addRoute(m, netlink.Route{LinkIndex: m.pod.Attrs().Index, Gw: f.gateway.AsSlice()})
}

// addRoute adds a route, and behind the existing one if another interface of the pod has it already: the
// first interface keeps the pod's default.
func (f family) addRoute(m *making, r netlink.Route) error {
	err := m.edge.pod.RouteAdd(&r)
	if errors.Is(err, unix.EEXIST) {
		r.Priority = f.metric + m.pod.Attrs().Index
		err = m.edge.pod.RouteAdd(&r)
	}
	return err
}

// addNeighbour spares the pod's first packet the ARP or NDP exchange, and works on hosts whose proxy has no
// answer because they have no default route.
func (f family) addNeighbour(m *making) error {
	return m.edge.pod.NeighSet(&netlink.Neigh{
		LinkIndex:    m.pod.Attrs().Index,
		Family:       f.number,
		State:        netlink.NUD_PERMANENT,
		IP:           f.gateway.AsSlice(),
		HardwareAddr: hostMAC(),
	})
}

func hostNet(addr netip.Addr) *net.IPNet {
	return &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(addr.BitLen(), addr.BitLen())}
}
