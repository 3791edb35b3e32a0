// SPDX-License-Identifier: Apache-2.0

package calc

import (
	"korat/felix/dataplane"
	"korat/felix/endpoint"
)

// Links wants the host's side of every pod up, with the pod's MTU.
func Links(live []endpoint.Endpoint) map[string]dataplane.Link {
	links := make(map[string]dataplane.Link, len(live))
	for _, ep := range live {
		links[ep.Interface] = dataplane.Link{Up: true, MTU: ep.MTU}
	}
	return links
}
