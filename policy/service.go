// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"net/netip"

	"korat/api"
)

// ServiceOf gives the service that a slice has endpoints of; false if it does not name one.
func ServiceOf(slice *api.EndpointSlice) (Service, bool) {
	s := Service{slice.Namespace, slice.Labels[api.LabelServiceName]}
	return s, s.Name != ""
}

// Behind gives the endpoints of a slice, ready or not: each with each port, and each without one, as which rules have it
// whose source the service is. As with ItemOf, an error names what cannot be understood.
func Behind(slice *api.EndpointSlice) ([]Member, error) {
	c := &conversion{key: slice.Key()}
	ports := c.slicePorts(slice.Ports)
	var all []Member
	for i, e := range slice.Endpoints {
		for j, text := range e.Addresses {
			at := index(index("endpoints", i)+".addresses", j)
			prefix, ok := c.net(at, text)
			if ok && !prefix.IsSingleIP() {
				c.fail(at, text, "must be one address")
				continue
			}
			if ok {
				all = append(all, behind(prefix, ports)...)
			}
		}
	}
	c.unread(slice)
	return all, errors.Join(c.errs...)
}

// Missing says whether some of a slice's endpoints may be missing, with the error that Behind gave.
func Missing(slice *api.EndpointSlice, err error) bool {
	return api.Hollow(slice) || err != nil && !api.Held(slice) && slice.AddressType != "FQDN"
}

func behind(prefix netip.Prefix, ports []Member) []Member {
	all := []Member{{Prefix: prefix}}
	for _, p := range ports {
		p.Prefix = prefix
		all = append(all, p)
	}
	return all
}

func (c *conversion) slicePorts(ports []api.SlicePort) []Member {
	var all []Member
	for i, p := range ports {
		at, protocol := index("ports", i), TCP
		if p.Protocol != nil {
			protocol = c.protocol(at+".protocol", p.Protocol)
		}
		switch {
		case p.Port == nil || !protocol.hasPorts():
		case *p.Port < 1 || *p.Port > 65535:
			c.fail(at+".port", *p.Port, "must be 1..65535")
		default:
			all = append(all, Member{Protocol: protocol, Port: uint16(*p.Port)})
		}
	}
	return all
}
