// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"cmp"
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"korat/api"
	"korat/felix/endpoint"
)

// workloadEndpoints are the record as the datastore shows it. What is the same as policies see it is their object: the
// mirror knows at once that it has not changed.
func workloadEndpoints(node string, eps map[endpoint.ID]endpoint.Endpoint, seen pods) []*api.WorkloadEndpoint {
	var all []*api.WorkloadEndpoint
	for _, ep := range eps {
		// The datastore would refuse a shortened name; under its whole one the pod may be there still. Lost labels are
		// not to become none there.
		if ep.Ready && !ep.Alias().Shortened() && !ep.Traits.Lost {
			p, known := seen[ep.ID]
			if !known || !sameToPolicies(p.record, ep) {
				p.object = workloadEndpoint(node, ep)
			}
			all = append(all, p.object)
		}
	}
	return all
}

func workloadEndpoint(node string, ep endpoint.Endpoint) *api.WorkloadEndpoint {
	orchestrator := "k8s"
	if ep.Pod == ep.ContainerID {
		orchestrator = "cni"
	}
	wep := &api.WorkloadEndpoint{}
	wep.Namespace = ep.Namespace
	wep.Name = api.WorkloadEndpointName(node, orchestrator, ep.Pod, ep.IfName)
	wep.Spec = api.WorkloadEndpointSpec{
		Orchestrator: orchestrator, Workload: ep.Pod, Node: node, ContainerID: ep.ContainerID, Pod: ep.Pod,
		Endpoint: ep.IfName, InterfaceName: ep.Interface, MAC: ep.MAC,
	}
	wep.Labels = maps.Clone(ep.Traits.Labels)
	for _, p := range ep.Traits.Ports {
		wep.Spec.Ports = append(wep.Spec.Ports, api.EndpointPort{Name: p.Name, Protocol: api.Protocol(p.Protocol), Port: p.Port})
	}
	for _, addr := range ep.Addresses {
		prefix, err := addr.Prefix(addr.BitLen())
		if err == nil {
			wep.Spec.IPNetworks = append(wep.Spec.IPNetworks, prefix.String())
		}
	}
	api.Default(wep)
	return wep
}

// pods are the record as policies see it, what is not finished yet too. An attachment that stays as it is stays
// one object.
type pods map[endpoint.ID]pod

type pod struct {
	record endpoint.Endpoint
	object *api.WorkloadEndpoint
}

// update brings them up to date, and gives all objects, and the addresses that were those of pods which have them no more.
// A pod of which the labels are lost is none of the objects: what is at an interface that policies do not know gets no new
// connections and begins none. Once they are known again its addresses are as another pod's: nobody has judged its flows.
func (p pods) update(node string, eps map[endpoint.ID]endpoint.Endpoint) (objects []*api.WorkloadEndpoint, gone []netip.Addr) {
	objects = make([]*api.WorkloadEndpoint, 0, len(eps))
	for _, id := range byInterface(eps) {
		ep := eps[id]
		have, known := p[id]
		if !known || !sameToPolicies(have.record, ep) || have.record.Traits.Lost != ep.Traits.Lost {
			if have.record.Traits.Lost || !slices.Equal(have.record.Addresses, ep.Addresses) {
				gone = append(gone, have.record.Addresses...)
			}
			have = pod{ep, workloadEndpoint(node, ep)}
			p[id] = have
		}
		if !ep.Traits.Lost {
			objects = append(objects, have.object)
		}
	}
	maps.DeleteFunc(p, func(id endpoint.ID, was pod) bool {
		_, attached := eps[id]
		if !attached {
			gone = append(gone, was.record.Addresses...)
		}
		return !attached
	})
	return objects, gone
}

// byInterface gives those that policies see. Of two for one interface, which a crash in the middle of an ADD
// leaves, it is the one that is reached, or may be soonest.
func byInterface(eps map[endpoint.ID]endpoint.Endpoint) map[string]endpoint.ID {
	at := make(map[string]endpoint.ID, len(eps))
	for id, ep := range eps {
		if other, taken := at[ep.Interface]; !taken || standsBack(eps[other], ep) {
			at[ep.Interface] = id
		}
	}
	return at
}

func standsBack(a, b endpoint.Endpoint) bool {
	if a.Ready != b.Ready {
		return b.Ready
	}
	return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.ContainerID, b.ContainerID)) < 0
}

// sameToPolicies says whether both are one pod to policies.
func sameToPolicies(a, b endpoint.Endpoint) bool {
	return a.ContainerID == b.ContainerID && a.MAC == b.MAC &&
		a.Namespace == b.Namespace && a.Pod == b.Pod && a.Interface == b.Interface && slices.Equal(a.Addresses, b.Addresses) &&
		sameLabels(a.Traits.Labels, b.Traits.Labels) && slices.Equal(a.Traits.Ports, b.Traits.Ports)
}

// sameLabels is mostly asked about one and the same map.
func sameLabels(a, b map[string]string) bool {
	return reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer() || maps.Equal(a, b)
}
