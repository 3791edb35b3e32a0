// SPDX-License-Identifier: Apache-2.0

package differential

import (
	"fmt"
	"strings"

	"korat/api"
	"korat/felix/endpoint"
)

// felix says how the agent works. The legacy backend is slower, and so less frequent.
func (r *Scene) felix() api.Object {
	o := &api.FelixConfiguration{}
	o.Name = api.DefaultName
	o.Spec.DefaultEndpointToHostAction = pick(r, "", "Return", "Drop", "Accept")
	o.Spec.IptablesFilterDenyAction = pick(r, "", "Drop", "Drop", "Reject")
	o.Spec.FailsafeInboundHostPorts, o.Spec.FailsafeOutboundHostPorts = r.failsafes(), r.failsafes()
	o.Spec.IptablesBackend = pick(r, "NFT", "NFT", "NFT", "Legacy")
	return o
}

func tierNames() []string { return []string{"first", "second", "third"} }

func (r *Scene) tier() api.Object {
	o := &api.Tier{}
	o.Name = pick(r, tierNames()...)
	o.Spec.Order = r.order(10, 500, 2000, 2_000_000, 20_000_000)
	o.Spec.DefaultAction = pick(r, "", api.Deny, api.Pass, api.Pass)
	return o
}

// order is one of a few, so that names decide now and then, or none.
func (r *Scene) order(from ...float64) *float64 {
	if r.maybe(5) {
		return nil
	}
	return new(pick(r, from...))
}

// profile is mostly that of a namespace.
func (r *Scene) profile() api.Object {
	o := &api.Profile{}
	o.Name = "kns." + pick(r, namespaces()...)
	if r.maybe(2) {
		o.Spec.LabelsToApply = map[string]string{"pcns.env": pick(r, "prod", "dev"), "z": r.value()}
	}
	o.Spec.Ingress = some(r, 0, 2, func() api.Rule { return r.rule(false) })
	o.Spec.Egress = some(r, 0, 2, func() api.Rule { return r.rule(false) })
	if r.maybe(2) {
		o.Spec.Ingress = append(o.Spec.Ingress, api.Rule{Action: api.Allow})
	}
	if r.maybe(2) {
		o.Spec.Egress = append(o.Spec.Egress, api.Rule{Action: api.Allow})
	}
	return o
}

// account is the profile of a service account.
func (r *Scene) account() api.Object {
	o := &api.Profile{}
	o.Name = "ksa." + pick(r, namespaces()...) + "." + pick(r, accounts()...)
	o.Spec.LabelsToApply = map[string]string{"pcsa.trust": pick(r, "high", "low")}
	return o
}

func accounts() []string { return []string{"front", "back"} }

func (r *Scene) anyNets() []string {
	return some(r, 0, pick(r, 2, 6), func() string { return r.net(pick(r, api.Families()...)) })
}

func (r *Scene) net(f api.Family) string { return pick(r, r.nets[f]...) }

func (r *Scene) networkSet() api.Object {
	o := &api.NetworkSet{}
	o.Namespace, o.Name, o.Labels, o.Spec.Nets = pick(r, namespaces()...), r.name("set"), r.labels(), r.anyNets()
	return o
}

func (r *Scene) globalNetworkSet() api.Object {
	o := &api.GlobalNetworkSet{}
	o.Name, o.Labels, o.Spec.Nets = r.name("set"), r.labels(), r.anyNets()
	return o
}

// strangers is how many pods other nodes may have.
const strangers = 6

// stranger is a pod of another node.
func (r *Scene) stranger() api.Object {
	i := r.IntN(strangers)
	o := &api.WorkloadEndpoint{}
	pod := fmt.Sprintf("stranger%d", i)
	o.Namespace, o.Name = namespaces()[i%3], api.WorkloadEndpointName(otherNode, "k8s", pod, "eth0")
	o.Labels = r.labels()
	o.Spec = api.WorkloadEndpointSpec{
		Orchestrator: "k8s", Workload: pod, Pod: pod, Node: otherNode, ContainerID: pod, Endpoint: "eth0",
		InterfaceName: fmt.Sprintf("calistranger%d", i), MAC: "02:00:00:00:01:00",
		IPNetworks: []string{strangerAddress(i, api.IPv4) + "/32", strangerAddress(i, api.IPv6) + "/128"},
	}
	for _, p := range r.namedPorts() {
		o.Spec.Ports = append(o.Spec.Ports, api.EndpointPort{Name: p.name, Protocol: api.Protocol(p.protocol), Port: p.port})
	}
	if r.maybe(2) {
		o.Spec.ServiceAccountName = pick(r, accounts()...)
	}
	return o
}

func strangerAddress(i int, f api.Family) string {
	if f == api.IPv4 {
		return fmt.Sprintf("172.17.200.%d", 1+i)
	}
	return fmt.Sprintf("fd00:17:0:ff::%d", 1+i)
}

// namedPort is a name that a pod has for a port.
type namedPort struct {
	name, protocol string
	port           uint16
}

func portNames() []string { return []string{"http", "dns", "alt"} }

// namedPorts gives a pod's: a name may stand for several ports, and mean another thing for each pod.
func (r *Scene) namedPorts() []namedPort {
	var all []namedPort
	for _, name := range portNames() {
		if r.maybe(2) {
			all = append(all, namedPort{name, pick(r, "TCP", "TCP", "UDP", "SCTP"), r.port()})
		}
	}
	return all
}

// traits are what policies know a pod by.
func (r *Scene) traits() endpoint.Traits {
	traits := endpoint.Traits{Labels: r.labels()}
	for _, p := range r.namedPorts() {
		traits.Ports = append(traits.Ports, endpoint.Port{Name: p.name, Protocol: p.protocol, Port: p.port})
	}
	return traits
}

// port is one that rules and flows have in common more often than not.
func (r *Scene) port() uint16 { return pick[uint16](r, 53, 79, 80, 81, 443, 8000, 8005, 8080) }

func (r *Scene) policyBase() api.PolicyBase {
	p := api.PolicyBase{
		Tier: pick(r, "", "", "default", pick(r, tierNames()...)), Order: r.order(1, 2, 2, 1000), Selector: r.selector(),
		Ingress: some(r, 0, 4, func() api.Rule { return r.rule(true) }), Egress: some(r, 0, 4, func() api.Rule { return r.rule(true) }),
	}
	if r.maybe(4) {
		p.Selector = ""
	}
	if r.maybe(10) {
		p.ServiceAccountSelector = pick(r, "trust == 'high'", "has(trust)", "!has(trust)", "all()")
	}
	if r.maybe(2) {
		p.Types = pick(r, []api.PolicyType{api.Ingress}, []api.PolicyType{api.Egress}, []api.PolicyType{api.Ingress, api.Egress})
	}
	r.services(p.Ingress, api.Ingress)
	r.services(p.Egress, api.Egress)
	// Lest most flows end at a tier's default.
	for _, rules := range []*[]api.Rule{&p.Ingress, &p.Egress} {
		if len(*rules) > 0 && r.maybe(3) {
			*rules = append(*rules, api.Rule{Action: pick(r, api.Allow, api.Allow, api.Pass)})
		}
	}
	if r.maybe(10) {
		p.PerformanceHints = []string{"AssumeNeededOnEveryNode"}
	}
	return p
}

func (r *Scene) networkPolicy() api.Object {
	o := &api.NetworkPolicy{}
	o.Namespace, o.Name, o.Spec.PolicyBase = pick(r, namespaces()...), r.name("policy"), r.policyBase()
	return o
}

func (r *Scene) globalSpec() api.GlobalNetworkPolicySpec {
	s := api.GlobalNetworkPolicySpec{PolicyBase: r.policyBase()}
	if r.maybe(3) {
		s.NamespaceSelector = r.ofNamespaces()
	}
	if r.maybe(4) { // which does not concern pods
		r.forHosts(&s)
	}
	return s
}

func (r *Scene) globalPolicy() api.Object {
	o := &api.GlobalNetworkPolicy{}
	o.Name, o.Spec = r.name("global"), r.globalSpec()
	if r.maybe(8) { // too long for the name of a chain
		o.Name += "-" + strings.Repeat("long", 5)
	}
	return o
}

func (r *Scene) stagedPolicy() api.Object {
	o := &api.StagedNetworkPolicy{}
	o.Namespace, o.Name, o.Spec.PolicyBase = pick(r, namespaces()...), r.name("staged"), r.policyBase()
	o.Spec.StagedAction = pick(r, "", "Set", "Set", "Ignore", "Learn")
	return o
}

func (r *Scene) stagedGlobalPolicy() api.Object {
	o := &api.StagedGlobalNetworkPolicy{}
	o.Name, o.Spec.GlobalNetworkPolicySpec = r.name("staged"), r.globalSpec()
	o.Spec.StagedAction = pick(r, "", "Set")
	return o
}
