// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"fmt"
	"maps"

	"korat/api"
)

// Snapshot gives what the datastore of a cluster in this State has, as far as it matters to policies.
func (s *State) Snapshot() api.Snapshot {
	snap := api.Snapshot{InSync: true}
	for _, p := range Pods() {
		snap = snap.With(s.endpoint(p))
	}
	for _, h := range Hosts() {
		node := &api.Node{}
		node.Name = h
		for _, f := range api.Families() {
			address := Place("host/" + h).Address(f).String()
			node.Spec.Addresses = append(node.Spec.Addresses, api.NodeAddress{Address: address, Type: "InternalIP"})
		}
		snap = snap.With(node)
	}
	for _, namespace := range Namespaces() {
		snap = snap.With(s.profile(namespace))
	}
	for _, obj := range s.policies {
		snap = snap.With(obj)
	}
	return snap
}

func (s *State) endpoint(p Pod) *api.WorkloadEndpoint {
	w := &api.WorkloadEndpoint{}
	w.Namespace, w.Name = p.Namespace, p.Host+"-k8s-"+p.Name+"-eth0"
	w.Labels = maps.Clone(s.labels["pod "+string(p.Place())])
	w.Spec.Node, w.Spec.Orchestrator, w.Spec.Pod, w.Spec.Endpoint = p.Host, "k8s", p.Name, "eth0"
	w.Spec.InterfaceName = fmt.Sprintf("cali%d", p.Number)
	for _, f := range api.Families() {
		addr := p.Place().Address(f)
		w.Spec.IPNetworks = append(w.Spec.IPNetworks, fmt.Sprintf("%s/%d", addr, addr.BitLen()))
	}
	for _, port := range p.Ports() {
		w.Spec.Ports = append(w.Spec.Ports, api.EndpointPort{Name: port.Name, Protocol: api.Protocol(port.Protocol), Port: port.Port})
	}
	api.Default(w)
	return w
}

// profile is what `koratctl label namespace` makes.
func (s *State) profile(namespace string) *api.Profile {
	p := &api.Profile{}
	p.Name = "kns." + namespace
	p.Spec.LabelsToApply = map[string]string{}
	for key, value := range s.labels["namespace "+namespace] {
		p.Spec.LabelsToApply["pcns."+key] = value
	}
	p.Spec.Ingress, p.Spec.Egress = []api.Rule{{Action: api.Allow}}, []api.Rule{{Action: api.Allow}}
	api.Default(p)
	return p
}
