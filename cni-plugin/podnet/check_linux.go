// SPDX-License-Identifier: Apache-2.0

package podnet

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"korat/felix/endpoint"
)

// Check compares the kernel with the pair and names every deviation. What others added is none, nor
// what later plugins changed.
func Check(want Pair, later Later) error {
	e, err := openEdge(want.NetNS)
	if err != nil {
		return err
	}
	defer e.close()
	return e.check(want, later)
}

func (e *edge) check(want Pair, later Later) error {
	host, err := linkByName(e.host, want.Interface)
	if err != nil {
		return err
	}
	pod, err := linkByName(e.pod, want.IfName)
	if err != nil {
		return err
	}
	var errs []error
	if host == nil {
		errs = append(errs, fmt.Errorf("host interface %s is gone", want.Interface))
	} else {
		errs = append(errs, checkLink("host interface", host, HostMAC, want.MTU), checkAlias(host, want))
	}
	if pod == nil {
		errs = append(errs, fmt.Errorf("interface %s is gone from %s", want.IfName, want.NetNS))
		return errors.Join(errs...)
	}
	mtu := cmp.Or(later.MTU, want.MTU)
	if later.AnyMTU {
		mtu = 0
	}
	errs = append(errs, checkLink("interface", pod, cmp.Or(later.MAC, want.MAC), mtu))
	if host != nil && pod.Attrs().ParentIndex != host.Attrs().Index {
		errs = append(errs, fmt.Errorf("interface %s is not the other side of %s", want.IfName, want.Interface))
	}
	for _, f := range want.families() {
		errs = append(errs, e.checkAddresses(pod, f, want.Addresses), e.checkRoutes(pod, f))
		if later.MAC == "" {
			errs = append(errs, e.checkNeighbour(pod, f))
		}
	}
	return errors.Join(errs...)
}

// checkLink compares one side; an empty MAC and an MTU of 0 are not compared.
func checkLink(what string, link netlink.Link, mac string, mtu int) error {
	a := link.Attrs()
	var errs []error
	if link.Type() != "veth" {
		errs = append(errs, fmt.Errorf("%s %s is a %s, not a veth", what, a.Name, link.Type()))
	}
	if a.RawFlags&unix.IFF_UP == 0 {
		errs = append(errs, fmt.Errorf("%s %s is down", what, a.Name))
	}
	if mac != "" && a.HardwareAddr.String() != mac {
		errs = append(errs, fmt.Errorf("%s %s has MAC %s, want %s", what, a.Name, a.HardwareAddr, mac))
	}
	if mtu != 0 && a.MTU != mtu {
		errs = append(errs, fmt.Errorf("%s %s has MTU %d, want %d", what, a.Name, a.MTU, mtu))
	}
	return errors.Join(errs...)
}

func checkAlias(host netlink.Link, want Pair) error {
	if text := endpoint.FormatAlias(want.Alias()); host.Attrs().Alias != text {
		return fmt.Errorf("host interface %s has alias %q, want %q", want.Interface, host.Attrs().Alias, text)
	}
	return nil
}

func (e *edge) checkAddresses(pod netlink.Link, f family, want []netip.Addr) error {
	name := pod.Attrs().Name
	have, err := dump(func() ([]netlink.Addr, error) { return e.pod.AddrList(pod, f.number) })
	if err != nil {
		return fmt.Errorf("read addresses of %s: %w", name, err)
	}
	var errs []error
	for _, addr := range want {
		text := hostNet(addr).String()
		if familyOf(addr) == f && !slices.ContainsFunc(have, func(a netlink.Addr) bool { return a.IPNet.String() == text }) {
			errs = append(errs, fmt.Errorf("interface %s lacks address %s", name, text))
		}
	}
	return errors.Join(errs...)
}

func (e *edge) checkRoutes(pod netlink.Link, f family) error {
	name := pod.Attrs().Name
	filter := &netlink.Route{LinkIndex: pod.Attrs().Index, Table: unix.RT_TABLE_MAIN}
	have, err := dump(func() ([]netlink.Route, error) {
		return e.pod.RouteListFiltered(f.number, filter, netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return fmt.Errorf("read routes of %s: %w", name, err)
	}
	var errs []error
	if !slices.ContainsFunc(have, f.isGatewayRoute) {
		errs = append(errs, fmt.Errorf("route %s dev %s scope link is missing", f.gateway, name))
	}
	if !slices.ContainsFunc(have, f.isDefaultRoute) {
		errs = append(errs, fmt.Errorf("route default via %s dev %s is missing", f.gateway, name))
	}
	return errors.Join(errs...)
}

// isGatewayRoute does not look at an IPv6 route's scope: the kernel keeps none, and shows universe.
func (f family) isGatewayRoute(r netlink.Route) bool {
	return r.Dst != nil && r.Dst.String() == hostNet(f.gateway).String() && r.Gw == nil && r.Type == unix.RTN_UNICAST &&
		(r.Scope == netlink.SCOPE_LINK || f.number == unix.AF_INET6)
}

func (f family) isDefaultRoute(r netlink.Route) bool {
	ones := 0
	if r.Dst != nil {
		ones, _ = r.Dst.Mask.Size()
	}
	return ones == 0 && r.Gw.Equal(f.gateway.AsSlice())
}

func (e *edge) checkNeighbour(pod netlink.Link, f family) error {
	have, err := dump(func() ([]netlink.Neigh, error) { return e.pod.NeighList(pod.Attrs().Index, f.number) })
	if err != nil {
		return fmt.Errorf("read neighbours of %s: %w", pod.Attrs().Name, err)
	}
	for _, n := range have {
		if n.IP.Equal(f.gateway.AsSlice()) && n.State&netlink.NUD_PERMANENT != 0 && n.HardwareAddr.String() == HostMAC {
			return nil
		}
	}
	return fmt.Errorf("permanent neighbour %s lladdr %s dev %s is missing", f.gateway, HostMAC, pod.Attrs().Name)
}
