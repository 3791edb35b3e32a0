// SPDX-License-Identifier: Apache-2.0

package main

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"unique"

	"korat/api"
)

// digest makes less of what the agent of a node need not know whole: the pods of other nodes, which are most of what a
// large cluster has. Of these it keeps what policies ask for. Pods of one workload have the same labels: they share one map, as
// do all objects their strings.
type digest struct {
	node string
	mu   sync.Mutex
	// labels are those that pods have had, by what they say.
	labels map[string]map[string]string
}

// maxLabels bounds how many sorts of labels are remembered. Where each pod has its own, nothing is gained by it.
const maxLabels = 10_000

func newDigest(node string) *digest {
	return &digest{node: node, labels: map[string]map[string]string{}}
}

// keep gives what the agent's Snapshot has of an object.
func (d *digest) keep(obj api.Object) api.Object {
	ep, ok := obj.(*api.WorkloadEndpoint)
	if !ok || ep.Spec.Node == d.node {
		return obj
	}
	brief := &api.WorkloadEndpoint{Spec: api.WorkloadEndpointSpec{
		Orchestrator: shared(ep.Spec.Orchestrator), Node: shared(ep.Spec.Node), IPNetworks: ep.Spec.IPNetworks,
		ServiceAccountName: shared(ep.Spec.ServiceAccountName), Profiles: slices.Clone(ep.Spec.Profiles), Ports: ep.Spec.Ports,
	}}
	for i, name := range brief.Spec.Profiles {
		brief.Spec.Profiles[i] = shared(name)
	}
	brief.Namespace, brief.Name, brief.Labels = shared(ep.Namespace), ep.Name, d.shareLabels(ep.Labels)
	brief.UID, brief.ResourceVersion = ep.UID, ep.ResourceVersion
	return brief
}

// shared gives one string for those that are equal, for as long as no garbage is collected in between.
func shared(s string) string { return unique.Make(s).Value() }

// shareLabels gives the one map of all that are equal. Objects of a Snapshot are never changed.
func (d *digest) shareLabels(labels map[string]string) map[string]string {
	if len(labels) == 0 {
		return nil
	}
	var text strings.Builder
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		text.WriteString(key + "\x00" + labels[key] + "\x00") // the API allows neither to have a zero byte
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if known := d.labels[text.String()]; known != nil {
		return known
	}
	own := make(map[string]string, len(labels))
	for key, value := range labels {
		own[shared(key)] = shared(value)
	}
	if len(d.labels) >= maxLabels {
		clear(d.labels)
	}
	d.labels[text.String()] = own
	return own
}
