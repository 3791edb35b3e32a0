// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"strconv"
	"strings"
)

// String gives the prefix.
func (k RouteKey) String() string { return k.Prefix.String() }

// String gives "<address> dev <device>", as ip neigh does.
func (k NeighbourKey) String() string { return k.Address.String() + " dev " + k.Device }

// String gives "lladdr <MAC>", as ip neigh does.
func (n Neighbour) String() string { return "lladdr " + n.MAC }

// String gives "up mtu 1450 group 0x1a2b3c4d".
func (l Link) String() string {
	s := "down"
	if l.Up {
		s = "up"
	}
	if l.MTU != 0 {
		s += " mtu " + strconv.Itoa(l.MTU)
	}
	if l.Group != 0 {
		s += " group 0x" + strconv.FormatUint(uint64(l.Group), 16)
	}
	return s
}

// String gives the type as ip route names it.
func (t RouteType) String() string {
	switch t {
	case Unicast:
		return "unicast"
	case Blackhole:
		return "blackhole"
	}
	return "type " + strconv.Itoa(int(t))
}

// String gives what ip route shows after the prefix, without protocol and scope.
func (r Route) String() string {
	var words []string
	if r.Type != Unicast {
		words = append(words, r.Type.String())
	}
	if len(r.NextHops) == 1 {
		words = append(words, r.NextHops[0].String())
	} else {
		for _, h := range r.NextHops {
			words = append(words, "nexthop", h.String())
		}
	}
	if r.Source.IsValid() {
		words = append(words, "src", r.Source.String())
	}
	if r.Shadowed {
		words = append(words, "(shadowed)")
	}
	return strings.Join(words, " ")
}

// String gives "via 192.0.2.1 dev eth0", or "dev eth0" for what is directly on the link.
func (h NextHop) String() string {
	if h.Gateway.IsValid() {
		return "via " + h.Gateway.String() + " dev " + h.Device
	}
	return "dev " + h.Device
}
