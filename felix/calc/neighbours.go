// SPDX-License-Identifier: Apache-2.0

package calc

import (
	"korat/felix/dataplane"
	"korat/felix/endpoint"
)

// Neighbours wants a permanent entry for each address of each pod: the first packet to a pod waits
// for no ARP or NDP, the pod can't claim another's address, and the entries don't count against the
// neighbour table's garbage collection thresholds.
func Neighbours(live []endpoint.Endpoint) map[dataplane.NeighbourKey]dataplane.Neighbour {
	neighbours := make(map[dataplane.NeighbourKey]dataplane.Neighbour, len(live))
	for _, ep := range live {
		if ep.MAC == "" {
			continue
		}
		for _, addr := range ep.Addresses {
			neighbours[dataplane.NeighbourKey{Device: ep.Interface, Address: addr}] = dataplane.Neighbour{MAC: ep.MAC}
		}
	}
	return neighbours
}
