// SPDX-License-Identifier: Apache-2.0

package api

import "net/netip"

// The most that Kubernetes' API server takes.
const (
	maxSliceEndpoints = 1000
	maxSliceAddresses = 100
	maxSlicePorts     = 20000
)

func defaultEndpointSlice(s *EndpointSlice) {
	for i := range s.Ports {
		setDefault(&s.Ports[i].Protocol, new(ProtocolTCP))
	}
}

// endpointSlice checks what policies take from a slice as Kubernetes' API server does. The rest is carried along.
func (c *checker) endpointSlice(s *EndpointSlice) {
	if service := s.Labels[LabelServiceName]; !isLabel(service) {
		c.fail(entry("metadata.labels", LabelServiceName), service, "must name the slice's service: a DNS-1123 label of at most 63 bytes")
	}
	family := IPv4
	switch s.AddressType {
	case "IPv4":
	case "IPv6":
		family = IPv6
	case "FQDN":
		c.fail("addressType", s.AddressType, "must be IPv4 or IPv6: korat knows endpoints by their addresses, not by names")
		return
	default:
		c.fail("addressType", s.AddressType, "must be IPv4 or IPv6")
		return
	}
	if len(s.Endpoints) > maxSliceEndpoints {
		c.fail("endpoints", len(s.Endpoints), "must be at most %d: make several slices of it", maxSliceEndpoints)
	}
	for i, e := range s.Endpoints {
		c.sliceAddresses(index("endpoints", i)+".addresses", e.Addresses, family)
	}
	c.slicePorts(s.Ports)
}

func (c *checker) sliceAddresses(field string, addresses []string, family Family) {
	if len(addresses) == 0 || len(addresses) > maxSliceAddresses {
		c.fail(field, len(addresses), "must be 1 to %d addresses", maxSliceAddresses)
	}
	for i, text := range addresses {
		at := index(field, i)
		addr, err := netip.ParseAddr(text)
		switch {
		case err != nil || !family.Has(addr) || addr.Is4In6():
			c.fail(at, text, "must be an %s address, as addressType says", family)
		default:
			c.host(at, text, addr)
		}
	}
}

func (c *checker) slicePorts(ports []SlicePort) {
	if len(ports) > maxSlicePorts {
		c.fail("ports", len(ports), "must be at most %d", maxSlicePorts)
	}
	names := map[string]bool{}
	for i, p := range ports {
		at, name := index("ports", i), ""
		if p.Name != nil {
			name = *p.Name
		}
		if names[name] {
			c.fail(at+".name", name, "is the name of another port of the slice: give each its own")
		}
		names[name] = true
		c.slicePort(at, name, p)
	}
}

func (c *checker) slicePort(at, name string, p SlicePort) {
	if name != "" && !isLabel(name) {
		c.fail(at+".name", name, "must be a DNS-1123 label: lower-case letters, digits and inner dashes, at most 63 bytes")
	}
	if p.Protocol != nil && *p.Protocol != ProtocolTCP && *p.Protocol != ProtocolUDP && *p.Protocol != ProtocolSCTP {
		c.fail(at+".protocol", string(*p.Protocol), "must be TCP, UDP or SCTP")
	}
	if p.Port != nil && (*p.Port < 1 || *p.Port > maxPort) {
		c.fail(at+".port", *p.Port, "must be 1..%d", maxPort)
	}
}
