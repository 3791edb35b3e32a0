// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"net/netip"
)

// Families says which IP versions a lab's hosts, agents and pods use. The zero value is IPv4.
type Families string

// The choices.
const (
	IPv4 Families = "ipv4"
	IPv6 Families = "ipv6"
	Dual Families = "dual"
)

// ParseFamilies reads one of the choices.
func ParseFamilies(text string) (Families, error) {
	switch f := Families(text); f {
	case IPv4, IPv6, Dual:
		return f, nil
	}
	return "", fmt.Errorf("%q: want %s, %s or %s", text, IPv4, IPv6, Dual)
}

func (f Families) ipv4() bool { return f != IPv6 }

func (f Families) ipv6() bool { return f == IPv6 || f == Dual }

// NetworkConfig is the network configuration that pods get unless they name another.
const NetworkConfig = `{"cniVersion":"1.0.0","name":"korat","type":"korat"}`

// NetworkConfig is the network configuration that the host's pods get unless they name another.
func (h *Host) NetworkConfig() string { return h.lab.config.Families.network() }

// network is NetworkConfig with what it takes to get an address of each family.
func (f Families) network() string {
	if !f.ipv6() {
		return NetworkConfig
	}
	return fmt.Sprintf(`{"cniVersion":"1.0.0","name":"korat","type":"korat","ipam":{"type":"korat-ipam","assign_ipv4":"%t","assign_ipv6":"true"}}`, f.ipv4())
}

// settings are an agent's lines for the families: IPv4, also by the zero value, is what it has without any.
func (f Families) settings() string {
	switch f {
	case IPv6:
		return "ip: none\nip6: autodetect\n"
	case Dual:
		return "ip6: autodetect\n"
	default:
		return ""
	}
}

// Addressed is what has addresses: a Host or a Pod.
type Addressed interface {
	Runner
	// Addresses has at most one of each family, IPv4 first.
	Addresses() []netip.Addr
}

// IPv6Of gives the IPv6 address of a host or pod; invalid if it has none.
func IPv6Of(where Addressed) netip.Addr {
	for _, a := range where.Addresses() {
		if a.Is6() {
			return a
		}
	}
	return netip.Addr{}
}
