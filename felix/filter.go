// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"korat/api"
	"korat/felix/dataplane"
)

// packetFilter gives what policies ask of the packet filter. A pod's part of it is there from its ADD on, before its
// interface is made.
func (a *Agent) packetFilter() dataplane.Filter {
	families := []api.Family{api.IPv4}
	if a.world.host.HasIPv6() {
		families = api.Families()
	}
	a.memos.filter.Families(families)
	if a.at.changed {
		a.memos.filter.Own(a.world.snap, a.memos.pods.update(a.Node, a.at.endpoints))
	}
	return a.memos.filter.Update()
}
