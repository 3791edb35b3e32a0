// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net"
	"net/netip"
	"strings"
)

// The labels that endpoints and network sets have of themselves, beside their own.
const (
	labelNamespace      = "projectcalico.org/namespace"
	labelOrchestrator   = "projectcalico.org/orchestrator"
	labelServiceAccount = "projectcalico.org/serviceaccount"
)

// How the labels begin that endpoints inherit of their namespaces and service accounts.
const (
	prefixNamespace      = "pcns."
	prefixServiceAccount = "pcsa."
)

// allInterfaces stands for every interface of a node but those of pods.
const allInterfaces = "*"

// podInterfaces is how the host's sides of pods' interfaces begin.
const podInterfaces = "cali"

func (c *checker) workloadEndpoint(w *WorkloadEndpoint) {
	s := &w.Spec
	c.onNode(s.Node)
	c.interfaceName("spec.endpoint", s.Endpoint)
	if c.ruleInterface("spec.interfaceName", s.InterfaceName) && !strings.HasPrefix(s.InterfaceName, podInterfaces) {
		c.fail("spec.interfaceName", s.InterfaceName, "must begin with %s: policies are applied to such interfaces alone", podInterfaces)
	}
	if len(s.IPNetworks) == 0 {
		c.fail("spec.ipNetworks", s.IPNetworks, "must hold at least one address")
	}
	for i, network := range s.IPNetworks {
		field := index("spec.ipNetworks", i)
		if p, ok := c.prefix(field, network); ok && !p.IsSingleIP() {
			c.fail(field, network, "must be one address: use %q", netip.PrefixFrom(p.Addr(), p.Addr().BitLen()))
		}
	}
	if s.MAC != "" {
		if mac, err := net.ParseMAC(s.MAC); err != nil || len(mac) != 6 {
			c.fail("spec.mac", s.MAC, `must be six bytes in hex, such as "02:00:00:00:00:01"`)
		}
	}
	c.podPolicy(w)
}

// interfaceName checks what the kernel takes for an interface's name (dev_valid_name).
func (c *checker) interfaceName(field, value string) {
	if value == "" || len(value) > 15 || value == "." || value == ".." || strings.ContainsAny(value, "/: \t\n\v\f\r") {
		c.fail(field, value, "must be an interface's name: 1 to 15 bytes without slash, colon and white space")
	}
}

// podPolicy checks what policies know a pod by.
func (c *checker) podPolicy(w *WorkloadEndpoint) {
	s := &w.Spec
	c.ownLabels(w.Labels, map[string]string{
		labelNamespace: w.Namespace, labelOrchestrator: s.Orchestrator, labelServiceAccount: s.ServiceAccountName,
	})
	if s.ServiceAccountName != "" && !isSubdomain(s.ServiceAccountName) {
		c.fail("spec.serviceAccountName", s.ServiceAccountName, "must be a service account's name: a DNS-1123 subdomain of at most %d bytes", maxNameLength)
	}
	c.profileNames(s.Profiles)
	c.endpointPorts(s.Ports)
}

func (c *checker) hostEndpoint(h *HostEndpoint) {
	s := &h.Spec
	c.ownLabels(h.Labels, nil)
	c.onNode(s.Node)
	switch {
	case s.InterfaceName == "" && len(s.ExpectedIPs) == 0:
		c.fail("spec.interfaceName", "", `must be set, or spec.expectedIPs: "%s" is all of the node's interfaces but those of pods`, allInterfaces)
	case strings.HasPrefix(s.InterfaceName, podInterfaces):
		c.fail("spec.interfaceName", s.InterfaceName, "must not begin with %s, as the interfaces of pods do: policies find pods by their labels", podInterfaces)
	case s.InterfaceName != "" && s.InterfaceName != allInterfaces:
		c.ruleInterface("spec.interfaceName", s.InterfaceName)
	}
	for i, value := range s.ExpectedIPs {
		field := index("spec.expectedIPs", i)
		if addr, err := netip.ParseAddr(value); err != nil {
			c.fail(field, value, `must be an address such as "192.168.100.100" or "fd00:192:168::100"`)
		} else {
			c.host(field, value, addr)
		}
	}
	c.profileNames(s.Profiles)
	c.endpointPorts(s.Ports)
}

// ruleInterface checks an interface's name that rules have, in which a plus sign would stand for anything.
func (c *checker) ruleInterface(field, value string) bool {
	ok := value != "" && len(value) <= 15 && value != "." && value != ".."
	for _, b := range []byte(value) {
		ok = ok && (isAlphanumeric(b) || b == '.' || b == '-' || b == '_')
	}
	if !ok {
		c.fail(field, value, "must be an interface's name: 1 to 15 letters, digits, dots, dashes and underscores")
	}
	return ok
}

func (c *checker) profileNames(names []string) {
	for i, name := range names {
		if !isSubdomain(name) {
			c.fail(index("spec.profiles", i), name, "must be a profile's name: a DNS-1123 subdomain of at most %d bytes", maxNameLength)
		}
		once(c, "spec.profiles", names, i)
	}
}

func (c *checker) endpointPorts(ports []EndpointPort) {
	seen := map[EndpointPort]bool{}
	for i, p := range ports {
		field := index("spec.ports", i)
		c.portName(field+".name", p.Name)
		if !p.Protocol.hasPorts() {
			c.fail(field+".protocol", string(p.Protocol), "must be TCP, UDP, SCTP or UDPLite, which have ports")
		}
		if p.Port == 0 {
			c.fail(field+".port", p.Port, "must be 1..65535")
		}
		if seen[p] {
			c.fail(field, p.Name, "is listed twice: remove one")
		}
		seen[p] = true
	}
}

func (c *checker) networkSet(obj Object, s *NetworkSetSpec) {
	c.ownLabels(obj.GetLabels(), nil)
	c.nets("spec.nets", s.Nets, 0)
}

// ownLabels refuses labels by which an object would claim to be in a namespace or to have a service account, unless
// they say what is given anyway.
func (c *checker) ownLabels(labels, given map[string]string) {
	for _, key := range sortedKeys(labels) {
		field, value := entry("metadata.labels", key), labels[key]
		switch {
		case strings.HasPrefix(key, prefixNamespace) || strings.HasPrefix(key, prefixServiceAccount):
			c.fail(field, value, "must not begin with %s or %s: such labels are inherited of the namespace and the service account", prefixNamespace, prefixServiceAccount)
		case key != labelNamespace && key != labelOrchestrator && key != labelServiceAccount:
		case given[key] == "":
			c.fail(field, value, "must not be set: remove it")
		case given[key] != value:
			c.fail(field, value, "must be %q for this object: remove it, as it is set anyway", given[key])
		}
	}
}
