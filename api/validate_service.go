// SPDX-License-Identifier: Apache-2.0

package api

// services checks that a rule names a service only for the end that is not the policy's own endpoint: whence what
// comes in, and whither what goes out. A destination's ports are the service's.
func (c *checker) services(field string, r *Rule, in place) {
	if s := r.Source.Services; s != nil && in.direction == Egress {
		c.fail(field+".source.services", s.Name, "must not be set in an egress rule, whose source is the policy's own endpoint: use %s.destination.services", field)
	}
	s := r.Destination.Services
	if s == nil {
		return
	}
	if in.direction == Ingress {
		c.fail(field+".destination.services", s.Name, "must not be set in an ingress rule, whose destination is the policy's own endpoint: use %s.source.services", field)
	}
	const remedy = "must be empty beside services, whose endpoints say their ports"
	if ports := r.Destination.Ports; len(ports) > 0 {
		c.fail(field+".destination.ports", ports[0].String(), remedy)
	}
	if ports := r.Destination.NotPorts; len(ports) > 0 {
		c.fail(field+".destination.notPorts", ports[0].String(), remedy)
	}
}

// serviceMatch checks the service that one end of a rule is, by which nothing else may pick that end.
func (c *checker) serviceMatch(field string, e *EntityRule, in place) {
	s := e.Services
	if !isLabel(s.Name) {
		c.fail(field+".services.name", s.Name, "must be a service's name: a DNS-1123 label of at most 63 bytes")
	}
	switch {
	case s.Namespace == "" && !in.namespaced:
		c.fail(field+".services.namespace", "", "must be set, as this object is in no namespace")
	case s.Namespace != "" && !isLabel(s.Namespace):
		c.fail(field+".services.namespace", s.Namespace, "must be a namespace's name: a DNS-1123 label of at most 63 bytes")
	}
	for _, other := range []struct {
		field string
		set   bool
	}{
		{".nets", len(e.Nets) > 0},
		{".notNets", len(e.NotNets) > 0},
		{".selector", e.Selector != ""},
		{".notSelector", e.NotSelector != ""},
		{".namespaceSelector", e.NamespaceSelector != ""},
		{".serviceAccounts", e.ServiceAccounts != nil},
	} {
		if other.set {
			c.fail(field+".services", s.Name, "must not be set beside %s: write two rules", field+other.field)
		}
	}
}

func (c *checker) serviceAccounts(field string, s *ServiceAccountMatch) {
	if len(s.Names) == 0 && s.Selector == "" {
		c.fail(field, "", "must have names or a selector: all() selects every service account")
	}
	for i, name := range s.Names {
		if !isSubdomain(name) {
			c.fail(index(field+".names", i), name, "must be a service account's name: a DNS-1123 subdomain of at most %d bytes", maxNameLength)
		}
	}
	c.endpointSelector(field+".selector", s.Selector)
}
