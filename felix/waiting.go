// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"fmt"

	"korat/api"
)

// waiting says what the agent waits for before it changes anything; nothing if it need not.
func (a *Agent) waiting() string {
	snap := a.world.snap
	switch {
	case !snap.InSync:
		return "datastore not in sync: " + a.datastoreTrouble()
	case !snap.DatastoreReady():
		return "ClusterInformation/default has datastoreReady false: a migration is under way"
	case !a.world.start.done:
		return unread(snap, a.Node)
	}
	return ""
}

// datastoreTrouble says why the datastore is not connected.
func (a *Agent) datastoreTrouble() string {
	if s := a.Datastore.Status(); s.Err != nil {
		return s.Err.Error()
	}
	return "not read yet"
}

// unread says which object nobody can read that this node's own traffic may depend on. What an earlier agent has made of it is in
// the kernel, and stays: without it the node would be open, or cut off. An agent that has read it once goes on with that.
func unread(snap api.Snapshot, node string) string {
	if cfg, ok := snap.FelixConfigurations.Get(api.DefaultName); ok && api.Hollow(cfg) {
		return api.Fault(cfg).Error()
	}
	for _, h := range snap.HostEndpoints.All() {
		if api.Hollow(h) {
			return api.Fault(h).Error()
		}
		for _, name := range h.Spec.Profiles {
			if p, ok := snap.Profiles.Get(name); ok && api.Hollow(p) && h.Spec.Node == node {
				return fmt.Sprintf("%v; it is a profile of %s, and until then nothing of this host is changed", api.Fault(p), h.Key())
			}
		}
	}
	return ""
}
