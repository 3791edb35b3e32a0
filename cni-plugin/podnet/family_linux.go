// SPDX-License-Identifier: Apache-2.0

package podnet

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"korat/felix/endpoint"
)

// family is what differs between the pod's IPv4 and its IPv6.
type family struct {
	number  int
	gateway netip.Addr
	// metric is the one that the kernel gives to routes without one. (IPv6: IP6_RT_PRIO_USER)
	metric int
	// addressFlags of the pod's addresses. IPv6's are in use at once, without duplicate address detection:
	// nobody else is on the link. (RFC 4862, section 5.4)
	addressFlags int
}

func ipv4() family { return family{number: unix.AF_INET, gateway: endpoint.Gateway()} }

func ipv6() family {
	return family{number: unix.AF_INET6, gateway: endpoint.GatewayIPv6(), metric: 1024, addressFlags: unix.IFA_F_NODAD}
}

func familyOf(addr netip.Addr) family {
	if addr.Is4() {
		return ipv4()
	}
	return ipv6()
}

// families are those that the pair has addresses of, in their order.
func (p Pair) families() []family {
	var all []family
	for _, addr := range p.Addresses {
		if f := familyOf(addr); !slices.Contains(all, f) {
			all = append(all, f)
		}
	}
	return all
}
