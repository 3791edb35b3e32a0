// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"korat/api"
	"korat/felix/dataplane"
	"korat/felix/kernel"
)

// packetFilter gives what policies ask of the packet filter. A pod's part of it is there from its ADD on, before its
// interface is made.
func (a *Agent) packetFilter() dataplane.Filter {
	families := []api.Family{api.IPv4}
	if a.world.host.HasIPv6() {
		families = api.Families()
	}
	f := a.memos.filter
	f.Families(families)
	if a.at.changed {
		f.Own(a.world.snap, a.memos.pods.update(a.Node, a.at.endpoints))
	}
	a.chooseBackend()
	return f.Update()
}

// chooser is a table of chains that can go over to another backend.
type chooser interface {
	// Want says whether that is another backend than before, of which nothing is known yet.
	Want(backend string) (changed bool, err error)
}

// chooseBackend takes over FelixConfiguration's iptablesBackend.
func (a *Agent) chooseBackend() {
	table, ok := a.Tables.Chains.(chooser)
	if !ok {
		return
	}
	backend := ""
	if cfg, ok := a.world.snap.FelixConfigurations.Get(api.DefaultName); ok {
		backend = cfg.Spec.IptablesBackend
	}
	changed, err := table.Want(backend)
	if changed {
		a.steps[chainsStep].invalidate(kernel.Everything())
	}
	if err != nil {
		a.Log.Warn("packet filter", "error", err)
	}
}
