// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"unique"

	"k8s.io/apimachinery/pkg/types"
	kjson "sigs.k8s.io/json"

	"korat/api"
	"korat/api/store"
	"korat/api/store/etcd"
	"korat/ipam"
)

// digest makes less of what the agent of a node need not know whole, which is most of what a large cluster has: of other nodes'
// pods what policies ask for, and of their blocks who has which range. It is read from the datastore's value without the rest, which
// would only be garbage. Pods of one workload have the same labels: they share one map, as do all objects their strings.
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

// restore gives what the agent's Snapshot has of an object, as api.Restore does. What is not understood is left to that.
func (d *digest) restore(key api.Key, value []byte) (api.Object, error) {
	if key.Kind == api.KindWorkloadEndpoint {
		if ep := d.endpoint(key, value); ep != nil {
			return ep, nil
		}
	}
	if key.Kind == api.KindIPAMBlock {
		if blk := ipam.Brief(d.node, key, value); blk != nil {
			return blk, nil
		}
	}
	return api.Restore(key, value)
}

// endpoint gives what is kept of another node's pod; nil for one that is to be kept whole.
func (d *digest) endpoint(key api.Key, value []byte) *api.WorkloadEndpoint {
	var have struct {
		Metadata struct {
			Name      string            `json:"name"`
			Namespace string            `json:"namespace"`
			UID       types.UID         `json:"uid"`
			Labels    map[string]string `json:"labels"`
		} `json:"metadata"`
		Spec struct {
			Orchestrator       string             `json:"orchestrator"`
			Node               string             `json:"node"`
			IPNetworks         []string           `json:"ipNetworks"`
			ServiceAccountName string             `json:"serviceAccountName"`
			Profiles           []string           `json:"profiles"`
			Ports              []api.EndpointPort `json:"ports"`
		} `json:"spec"`
	}
	meta, spec := &have.Metadata, &have.Spec
	if kjson.UnmarshalCaseSensitivePreserveInts(value, &have) != nil || meta.Name != key.Name || meta.Namespace != key.Namespace || spec.Node == d.node {
		return nil
	}
	brief := &api.WorkloadEndpoint{Spec: api.WorkloadEndpointSpec{
		Orchestrator: shared(spec.Orchestrator), Node: shared(spec.Node), IPNetworks: slices.Clip(spec.IPNetworks),
		ServiceAccountName: shared(spec.ServiceAccountName), Profiles: slices.Clip(spec.Profiles), Ports: slices.Clip(spec.Ports),
	}}
	for i, name := range brief.Spec.Profiles {
		brief.Spec.Profiles[i] = shared(name)
	}
	brief.Namespace, brief.Name, brief.UID = shared(meta.Namespace), meta.Name, meta.UID
	brief.Labels = d.shareLabels(meta.Labels)
	return brief
}

// ranges is the datastore as the Keeper of blocks needs it, which lists for nothing but ranges, and whose they are.
type ranges struct {
	*etcd.Store
	brief store.Source
}

// Pages implements store.Pager.
func (r ranges) Pages(ctx context.Context, kind api.Kind, each func([]api.Object)) (string, error) {
	return store.Each(ctx, r.brief, kind, each)
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
