// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"korat/felix/dataplane"
)

const (
	// skipStatistics is RTEXT_FILTER_SKIP_STATS: counters are most of a link's message.
	skipStatistics = 1 << 3
	// deviceKind is the type given to interfaces without a kind of their own, which is hardware.
	deviceKind = "device"
)

// Observe gives what the kernel has of links and addresses, and whether somebody else's route covers
// 0.0.0.0/0.
func (h *Handle) Observe(ctx context.Context) (dataplane.Host, error) {
	byIndex := map[uint32]*dataplane.HostLink{}
	host := dataplane.Host{Links: map[string]dataplane.HostLink{}}
	names := map[uint32]string{}
	err := h.conn.links(ctx, func() { clear(byIndex); clear(names) }, func(l kernelLink) {
		link := l.hostLink()
		byIndex[uint32(l.Index)], names[uint32(l.Index)] = &link, l.name
	})
	if err != nil {
		return host, fmt.Errorf("observe links: %w", err)
	}
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		if err := h.observeAddresses(ctx, family, byIndex); err != nil {
			return host, err
		}
	}
	for index, link := range byIndex {
		host.Links[names[index]] = *link
	}
	host.DefaultRoute, err = h.foreignDefault()
	return host, err
}

func (h *Handle) observeAddresses(ctx context.Context, family uint8, links map[uint32]*dataplane.HostLink) error {
	found, unsettled := map[uint32][]netip.Prefix{}, map[uint32][]netip.Addr{}
	err := h.conn.addresses(ctx, family, func() { clear(found); clear(unsettled) }, func(msg unix.IfAddrmsg, p netip.Prefix) {
		found[msg.Index] = append(found[msg.Index], p)
		if family == unix.AF_INET6 && msg.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DEPRECATED) != 0 {
			unsettled[msg.Index] = append(unsettled[msg.Index], p.Addr())
		}
	})
	if err != nil {
		return fmt.Errorf("observe addresses: %w", err)
	}
	for index, prefixes := range found {
		if link := links[index]; link != nil {
			link.Addresses = append(link.Addresses, prefixes...)
			link.Unsettled = append(link.Unsettled, unsettled[index]...)
		}
	}
	return nil
}

// links reads all links.
func (c *conn) links(ctx context.Context, start func(), each func(kernelLink)) error {
	return c.dump(ctx, func(b *buffer) {
		b.begin(unix.RTM_GETLINK, unix.NLM_F_DUMP)
		b.raw(bytesOf(&unix.IfInfomsg{}))
		b.attrUint32(unix.IFLA_EXT_MASK, skipStatistics)
	}, start, func(m message) {
		if l, ok := decodeLink(m.body); ok {
			each(l)
		}
	})
}

// addresses reads the addresses of one family, with the header of each message.
func (c *conn) addresses(ctx context.Context, family uint8, start func(), each func(msg unix.IfAddrmsg, p netip.Prefix)) error {
	return c.dump(ctx, func(b *buffer) {
		b.begin(unix.RTM_GETADDR, unix.NLM_F_DUMP)
		b.raw(bytesOf(&unix.IfAddrmsg{Family: family}))
	}, start, func(m message) {
		if msg, p, ok := decodeAddress(m.body); ok && msg.Family == family && lasting(msg, p.Addr()) {
			each(msg, p)
		}
	})
}

// lasting is false for the IPv6 addresses that nothing may hang on: every link has a link-local one, temporary
// ones come and go (RFC 8981), and one that another host has, too, is never used (RFC 4862 5.4.5).
func lasting(msg unix.IfAddrmsg, a netip.Addr) bool {
	if a.Is4() {
		return true
	}
	return !a.IsLinkLocalUnicast() && msg.Flags&(unix.IFA_F_TEMPORARY|unix.IFA_F_DADFAILED) == 0
}

// decodeAddress reads an address. On a point-to-point link IFA_ADDRESS is the other side's, and
// IFA_LOCAL ours; IPv6 may have the former only.
func decodeAddress(body []byte) (msg unix.IfAddrmsg, p netip.Prefix, ok bool) {
	msg, ok = header[unix.IfAddrmsg](body)
	if !ok || msg.Family != unix.AF_INET && msg.Family != unix.AF_INET6 {
		return msg, p, false
	}
	var local, address netip.Addr
	for typ, value := range attributes(body, unix.SizeofIfAddrmsg) {
		switch typ {
		case unix.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(value)
		case unix.IFA_ADDRESS:
			address, _ = netip.AddrFromSlice(value)
		}
	}
	if !local.IsValid() {
		local = address
	}
	p = netip.PrefixFrom(local, int(msg.Prefixlen))
	return msg, p, p.IsValid()
}

// foreignDefault says whether the main table has an IPv4 default route that is not ours and leads
// somewhere. The kernel gives a table in the order of the prefixes' addresses, so the answer is in the
// beginning; the socket is closed without reading on, which spares the kernel the rest.
func (h *Handle) foreignDefault() (found bool, err error) {
	c, err := h.dialInside(unix.NETLINK_ROUTE)
	if err != nil {
		return false, fmt.Errorf("observe default route: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Close(c.fd)) }()
	c.out.begin(unix.RTM_GETROUTE, unix.NLM_F_DUMP)
	c.out.raw(bytesOf(&unix.RtMsg{Family: unix.AF_INET, Table: unix.RT_TABLE_MAIN}))
	c.out.end(0)
	if err := c.send(); err != nil {
		return false, fmt.Errorf("observe default route: %w", err)
	}
	for {
		b, err := c.receive()
		if err != nil {
			return false, fmt.Errorf("observe default route: %w", err)
		}
		for m := range messages(b) {
			if m.typ == unix.NLMSG_DONE || m.typ == unix.NLMSG_ERROR {
				return false, ignoreNoTable(errorOf(m))
			}
			r, ok := decodeRoute(m.body, unix.AF_INET)
			switch {
			case !ok:
			case !r.prefix.Addr().IsUnspecified():
				return false, nil
			case r.prefix.Bits() == 0 && r.Protocol != Protocol && r.Type == unix.RTN_UNICAST:
				return true, nil
			}
		}
	}
}

// ignoreNoTable: the kernel makes the main table with its first route.
func ignoreNoTable(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// kernelLink is a link as a message has it.
type kernelLink struct {
	unix.IfInfomsg
	name, alias, kind string
	mtu               int
	group             uint32
	// mac has the address' bytes.
	mac      string
	ipv6     bool
	acceptRA dataplane.AcceptRA
	forwards bool
}

func decodeLink(body []byte) (l kernelLink, ok bool) {
	l.IfInfomsg, ok = header[unix.IfInfomsg](body)
	if !ok || l.Family != unix.AF_UNSPEC { // bridges tell of their ports in messages of AF_BRIDGE
		return l, false
	}
	l.kind = deviceKind
	for typ, value := range attributes(body, unix.SizeofIfInfomsg) {
		switch typ {
		case unix.IFLA_IFNAME:
			l.name = stringOf(value)
		case unix.IFLA_IFALIAS:
			l.alias = stringOf(value)
		case unix.IFLA_MTU:
			l.mtu = int(uint32Of(value))
		case unix.IFLA_GROUP:
			l.group = uint32Of(value)
		case unix.IFLA_ADDRESS:
			l.mac = string(value)
		case unix.IFLA_LINKINFO:
			for typ, value := range attributes(value, 0) {
				if typ == unix.IFLA_INFO_KIND {
					l.kind = stringOf(value)
				}
			}
		case unix.IFLA_AF_SPEC:
			l.decodeIPv6(value)
		}
	}
	return l, l.name != ""
}

// decodeIPv6 finds what IPv6 says of a link in IFLA_AF_SPEC: its settings are a list of numbers (linux/ipv6.h,
// DEVCONF_…).
func (l *kernelLink) decodeIPv6(spec []byte) {
	const devconfForwarding, devconfAcceptRA = 0, 3
	for family, value := range attributes(spec, 0) {
		if family != unix.AF_INET6 {
			continue
		}
		for typ, value := range attributes(value, 0) {
			if typ == unix.IFLA_INET6_CONF && len(value) >= 4*(devconfAcceptRA+1) {
				l.ipv6, l.acceptRA = true, dataplane.AcceptRA(uint32Of(value[4*devconfAcceptRA:]))
				l.forwards = uint32Of(value[4*devconfForwarding:]) != 0
			}
		}
	}
}

func (l kernelLink) hostLink() dataplane.HostLink {
	return dataplane.HostLink{
		Index: int(l.Index), Type: l.kind, MTU: l.mtu,
		Up: l.Flags&unix.IFF_UP != 0, Running: l.Flags&unix.IFF_UP != 0 && l.Flags&unix.IFF_RUNNING != 0,
		MAC: net.HardwareAddr(l.mac).String(), Alias: l.alias, IPv6: l.ipv6, AcceptRA: l.acceptRA, Forwards: l.forwards,
	}
}
