// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"korat/felix/dataplane"
)

// defaultMetric6 is what the kernel gives to IPv6 routes without a metric; IPv4's is 0.
const defaultMetric6 = 1024

func family(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// encodeRoute appends the message that creates or replaces a route.
func encodeRoute(b *buffer, prefix netip.Prefix, r dataplane.Route, devices *devices) error {
	if err := checkRoute(prefix, r); err != nil {
		return err
	}
	msg := unix.RtMsg{
		Family: family(prefix.Addr()), Dst_len: uint8(prefix.Bits()),
		Table: unix.RT_TABLE_MAIN, Protocol: Protocol, Scope: unix.RT_SCOPE_UNIVERSE, Type: unix.RTN_UNICAST,
	}
	if r.Type == dataplane.Blackhole {
		msg.Type = unix.RTN_BLACKHOLE
	} else if !r.Learned() {
		msg.Scope = unix.RT_SCOPE_LINK
	}
	if len(r.NextHops) == 1 && r.NextHops[0].Gateway.IsValid() {
		msg.Flags = unix.RTNH_F_ONLINK
	}
	b.begin(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	b.raw(bytesOf(&msg))
	b.attrAddr(unix.RTA_DST, prefix.Addr())
	if r.Source.IsValid() {
		b.attrAddr(unix.RTA_PREFSRC, r.Source)
	}
	return encodeNextHops(b, r.NextHops, devices)
}

func encodeNextHops(b *buffer, hops []dataplane.NextHop, devices *devices) error {
	if len(hops) == 1 {
		index, err := devices.index(hops[0].Device)
		if err != nil {
			return err
		}
		b.attrUint32(unix.RTA_OIF, index)
		if hops[0].Gateway.IsValid() {
			b.attrAddr(unix.RTA_GATEWAY, hops[0].Gateway)
		}
		return nil
	}
	if len(hops) == 0 {
		return nil
	}
	list := b.open(unix.RTA_MULTIPATH)
	for _, h := range hops {
		index, err := devices.index(h.Device)
		if err != nil {
			return fmt.Errorf("next hop %v: %w", h, err)
		}
		at := len(b.b)
		nh := unix.RtNexthop{Ifindex: int32(index)}
		if h.Gateway.IsValid() {
			nh.Flags = unix.RTNH_F_ONLINK
		}
		b.raw(bytesOf(&nh))
		if h.Gateway.IsValid() {
			b.attrAddr(unix.RTA_GATEWAY, h.Gateway)
		}
		native.PutUint16(b.b[at:], uint16(len(b.b)-at))
	}
	b.close(list)
	return nil
}

// checkRoute refuses what the kernel would misunderstand.
func checkRoute(prefix netip.Prefix, r dataplane.Route) error {
	switch {
	case !prefix.IsValid() || prefix != prefix.Masked():
		return errors.New("not a prefix, or one with host bits set")
	case r.Type == dataplane.Blackhole && len(r.NextHops) > 0:
		return errors.New("a blackhole has no next hop")
	case r.Type == dataplane.Unicast && len(r.NextHops) == 0:
		return errors.New("no next hop")
	case r.Type != dataplane.Unicast && r.Type != dataplane.Blackhole:
		return errors.New("routes of this type are not made here")
	}
	for _, h := range r.NextHops {
		if !h.Gateway.IsValid() && len(r.NextHops) > 1 && prefix.Addr().Is6() {
			return errors.New("the kernel uses only one of several IPv6 next hops without a gateway")
		}
		if h.Gateway.IsValid() && h.Gateway.Is4() != prefix.Addr().Is4() {
			return fmt.Errorf("gateway %v is of the other address family", h.Gateway)
		}
	}
	return nil
}

// encodeRouteDelete appends the message that deletes the first route with a prefix, TOS 0 (IPv6: our metric),
// and a protocol unless that is RTPROT_UNSPEC.
func encodeRouteDelete(b *buffer, prefix netip.Prefix, protocol uint8) {
	b.begin(unix.RTM_DELROUTE, 0)
	b.raw(bytesOf(&unix.RtMsg{
		Family: family(prefix.Addr()), Dst_len: uint8(prefix.Bits()),
		Table: unix.RT_TABLE_MAIN, Protocol: protocol, Scope: unix.RT_SCOPE_NOWHERE,
	}))
	b.attrAddr(unix.RTA_DST, prefix.Addr())
	if prefix.Addr().Is6() {
		b.attrUint32(unix.RTA_PRIORITY, defaultMetric6)
	}
}

// kernelRoute is a route as a message has it. Its slices are valid as long as the message is.
type kernelRoute struct {
	unix.RtMsg
	prefix    netip.Prefix
	metric    uint32
	index     uint32
	gateway   netip.Addr
	source    netip.Addr
	multipath []byte
}

// decodeRoute reads a route of the main table; ok is false for anything else, such as one for certain sources
// only. A kernel without IPv6 answers a dump of its routes with those of all families.
func decodeRoute(body []byte, wantFamily uint8) (r kernelRoute, ok bool) {
	r.RtMsg, ok = header[unix.RtMsg](body)
	if !ok || r.Family != wantFamily || r.Table != unix.RT_TABLE_MAIN || r.Flags&unix.RTM_F_CLONED != 0 || r.Src_len != 0 {
		return r, false
	}
	dst := netip.IPv4Unspecified()
	if r.Family == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	}
	for typ, value := range attributes(body, unix.SizeofRtMsg) {
		switch typ {
		case unix.RTA_DST:
			dst, _ = netip.AddrFromSlice(value)
		case unix.RTA_PRIORITY:
			r.metric = uint32Of(value)
		case unix.RTA_OIF:
			r.index = uint32Of(value)
		case unix.RTA_GATEWAY:
			r.gateway, _ = netip.AddrFromSlice(value)
		case unix.RTA_PREFSRC:
			r.source, _ = netip.AddrFromSlice(value)
		case unix.RTA_MULTIPATH:
			r.multipath = value
		}
	}
	r.prefix = netip.PrefixFrom(dst, int(r.Dst_len))
	return r, r.prefix.IsValid()
}

// atOurMetric is true of a route with the TOS and metric that ours have.
func (r kernelRoute) atOurMetric() bool {
	if r.Family == unix.AF_INET6 {
		return r.metric == defaultMetric6
	}
	return r.metric == 0 && r.Tos == 0
}

// hopSlab gives single next hops out of larger pieces of memory.
type hopSlab []dataplane.NextHop

const hopsPerSlab = 256

func (s *hopSlab) one(h dataplane.NextHop) []dataplane.NextHop {
	if len(*s) == cap(*s) {
		*s = make([]dataplane.NextHop, 0, hopsPerSlab)
	}
	*s = append(*s, h)
	return (*s)[len(*s)-1 : len(*s) : len(*s)]
}

func (r kernelRoute) route(devices *devices, hops *hopSlab, shadowed bool) dataplane.Route {
	route := dataplane.Route{Source: r.source, Shadowed: shadowed}
	switch r.Type {
	case unix.RTN_UNICAST:
		route.Type = dataplane.Unicast
	case unix.RTN_BLACKHOLE:
		route.Type = dataplane.Blackhole
		return route // IPv6 gives the loopback interface
	default:
		route.Type = dataplane.RouteType(r.Type) // equal to nothing that is wanted
	}
	if r.multipath == nil {
		route.NextHops = hops.one(dataplane.NextHop{Device: devices.name(r.index), Gateway: r.gateway})
		return route
	}
	for b := r.multipath; len(b) >= unix.SizeofRtNexthop; {
		n := int(native.Uint16(b))
		if n < unix.SizeofRtNexthop || n > len(b) {
			break
		}
		h := dataplane.NextHop{Device: devices.name(native.Uint32(b[4:]))}
		for typ, value := range attributes(b[:n], unix.SizeofRtNexthop) {
			if typ == unix.RTA_GATEWAY {
				h.Gateway, _ = netip.AddrFromSlice(value)
			}
		}
		route.NextHops = append(route.NextHops, h)
		b = b[min(align(n), len(b)):]
	}
	dataplane.SortNextHops(route.NextHops)
	return route
}
