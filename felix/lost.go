// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"fmt"
	"maps"
	"slices"

	"korat/api"
	"korat/felix/endpoint"
)

// relearn completes what still lacks its labels once the datastore has them.
func (at *attachments) relearn(snap api.Snapshot) {
	for _, id := range slices.Collect(maps.Keys(at.recovered)) {
		ep := at.endpoints[id]
		whole := withTraits(at.node, ep, snap)
		if whole.Traits.Lost {
			continue
		}
		if err := at.put(whole); err != nil {
			at.log.Error("complete attachment", "endpoint", id.String(), "error", err)
			continue
		}
		at.log.Info("policies know the pod again", "endpoint", id.String(), "pod", ep.Namespace+"/"+ep.Pod)
		delete(at.recovered, id)
	}
}

// lost says of which attachments neither this node nor the datastore, once it has been read, knows the labels any more.
func (a *Agent) lost() []string {
	if !a.world.start.done {
		return nil
	}
	var all []string
	for id := range a.at.recovered {
		all = append(all, "policy: "+a.at.unknown(a.at.endpoints[id]))
	}
	slices.Sort(all)
	return all
}

// unknown says what becomes of an attachment of which the labels are lost.
func (at *attachments) unknown(ep endpoint.Endpoint) string {
	remedy := "delete the pod"
	if !ep.Alias().Shortened() {
		remedy += fmt.Sprintf(", or create its %s with its labels", workloadEndpoint(at.node, ep).Key())
	}
	return fmt.Sprintf("pod %s/%s: this node's record of it is lost, and the datastore does not have its labels: which policies are for it is not known, so %s gets no new connections and begins none: %s",
		ep.Namespace, ep.Pod, ep.Interface, remedy)
}
