// SPDX-License-Identifier: Apache-2.0

package differential

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"korat/api"
)

func (r *Scene) labelSelector(keys ...string) *metav1.LabelSelector {
	s := &metav1.LabelSelector{}
	if r.maybe(3) {
		s.MatchLabels = map[string]string{pick(r, keys...): pick(r, "1", "2", "prod")}
	}
	if r.maybe(3) {
		e := metav1.LabelSelectorRequirement{Key: pick(r, keys...), Operator: pick(r,
			metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn, metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist)}
		if e.Operator == metav1.LabelSelectorOpIn || e.Operator == metav1.LabelSelectorOpNotIn {
			e.Values = some(r, 1, 2, func() string { return pick(r, "1", "2", "prod", "dev") })
		}
		s.MatchExpressions = append(s.MatchExpressions, e)
	}
	return s
}

func (r *Scene) podSelector() *metav1.LabelSelector { return r.labelSelector("x", "y", "z") }

func (r *Scene) namespaceLabels() *metav1.LabelSelector {
	if r.maybe(3) {
		return &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": pick(r, namespaces()...)}}
	}
	return r.labelSelector("env")
}

func (r *Scene) kubernetesPolicy() api.Object {
	o := &api.KubernetesNetworkPolicy{}
	o.Namespace, o.Name = pick(r, namespaces()...), r.name("kubernetes")
	s := &o.Spec
	s.PodSelector = *r.podSelector()
	s.PolicyTypes = pick(r, nil, []api.PolicyType{api.Ingress}, []api.PolicyType{api.Egress}, []api.PolicyType{api.Ingress, api.Egress})
	s.Ingress = some(r, 0, 2, func() api.KubernetesPolicyIngressRule {
		return api.KubernetesPolicyIngressRule{Ports: some(r, 0, 2, r.kubernetesPort), From: some(r, 0, 3, r.kubernetesPeer)}
	})
	s.Egress = some(r, 0, 2, func() api.KubernetesPolicyEgressRule {
		return api.KubernetesPolicyEgressRule{Ports: some(r, 0, 2, r.kubernetesPort), To: some(r, 0, 3, r.kubernetesPeer)}
	})
	return o
}

func (r *Scene) kubernetesPort() api.KubernetesPolicyPort {
	p := api.KubernetesPolicyPort{}
	if r.maybe(2) {
		p.Protocol = new(pick[api.Protocol](r, "TCP", "UDP", "SCTP"))
	}
	port := r.port()
	switch r.IntN(4) {
	case 0:
	case 1:
		p.Port = &api.KubernetesPort{Port: api.Port{Name: pick(r, portNames()...)}}
	case 2:
		p.Port, p.EndPort = &api.KubernetesPort{Port: api.Port{First: port, Last: port}}, new(int32(port)+int32(r.IntN(400)))
	default:
		p.Port = &api.KubernetesPort{Port: api.Port{First: port, Last: port}}
	}
	return p
}

func (r *Scene) kubernetesPeer() api.KubernetesPolicyPeer {
	switch r.IntN(4) {
	case 0:
		b := pick(r,
			&api.IPBlock{CIDR: "0.0.0.0/0", Except: []string{"172.17.0.0/30", "192.0.2.0/25", "172.17.200.2/32"}},
			&api.IPBlock{CIDR: "172.17.0.0/16", Except: []string{"172.17.200.0/30"}},
			&api.IPBlock{CIDR: "fd00:17::/48", Except: []string{"fd00:17:0:ff::/126"}},
			&api.IPBlock{CIDR: "::/0"}, &api.IPBlock{CIDR: "192.0.2.0/24"},
		)
		return api.KubernetesPolicyPeer{IPBlock: b}
	case 1:
		return api.KubernetesPolicyPeer{PodSelector: r.podSelector()}
	case 2:
		return api.KubernetesPolicyPeer{NamespaceSelector: r.namespaceLabels()}
	}
	return api.KubernetesPolicyPeer{PodSelector: r.podSelector(), NamespaceSelector: r.namespaceLabels()}
}

func (r *Scene) clusterPolicy() api.Object {
	o := &api.ClusterNetworkPolicy{}
	o.Name = r.name("cluster")
	s := &o.Spec
	s.Tier, s.Priority = pick(r, api.ClusterTierAdmin, api.ClusterTierBaseline), int32(r.IntN(4))
	if r.maybe(2) {
		s.Subject.Namespaces = r.namespaceLabels()
	} else {
		s.Subject.Pods = r.namespacedPods()
	}
	action := func() string { return pick(r, api.ClusterActionAccept, api.ClusterActionAccept, "Deny", "Pass") }
	protocols := func() []api.ClusterPolicyProtocol { return some(r, 0, 2, r.clusterProtocol) }
	s.Ingress = some(r, 0, 3, func() api.ClusterPolicyRule {
		return api.ClusterPolicyRule{Name: "in", Action: action(), From: some(r, 1, 2, r.clusterPeer), Protocols: protocols()}
	})
	s.Egress = some(r, 0, 3, func() api.ClusterPolicyEgress {
		if r.maybe(3) {
			networks := some(r, 1, 4, func() string {
				return pick(r, "192.0.2.0/24", "172.17.0.0/16", "fd00:17::/48", "2001:db8::/32", "0.0.0.0/0")
			})
			return api.ClusterPolicyEgress{Action: action(), To: []api.ClusterPolicyPeer{{Networks: networks}}}
		}
		return api.ClusterPolicyEgress{Name: "out", Action: action(), To: some(r, 1, 2, r.clusterPeer), Protocols: protocols()}
	})
	return o
}

func (r *Scene) namespacedPods() *api.NamespacedPods {
	return &api.NamespacedPods{NamespaceSelector: *r.namespaceLabels(), PodSelector: *r.podSelector()}
}

func (r *Scene) clusterPeer() api.ClusterPolicyPeer {
	if r.maybe(2) {
		return api.ClusterPolicyPeer{Namespaces: r.namespaceLabels()}
	}
	return api.ClusterPolicyPeer{Pods: r.namespacedPods()}
}

func (r *Scene) clusterProtocol() api.ClusterPolicyProtocol {
	if r.maybe(3) {
		return api.ClusterPolicyProtocol{DestinationNamedPort: pick(r, portNames()...)}
	}
	port := int32(r.port())
	ports := &api.ClusterPolicyPorts{DestinationPort: &api.ClusterPolicyPort{Number: port}}
	if r.maybe(2) {
		ports.DestinationPort = &api.ClusterPolicyPort{Range: &api.ClusterPolicyPortRange{Start: port, End: port + 100}}
	}
	switch r.IntN(3) {
	case 0:
		return api.ClusterPolicyProtocol{TCP: ports}
	case 1:
		return api.ClusterPolicyProtocol{UDP: ports}
	}
	return api.ClusterPolicyProtocol{SCTP: ports}
}
