// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"korat/api"
)

// resync wakes the loop for full reads of the kernel, with the periods of FelixConfiguration.
type resync struct {
	standard                                             time.Duration
	routePeriod, interfacePeriod, setPeriod, chainPeriod time.Duration
	routes, interfaces, sets, chains                     *time.Ticker
}

func newResync(standard time.Duration) *resync {
	return &resync{
		standard: standard, routePeriod: standard, interfacePeriod: standard, setPeriod: standard, chainPeriod: standard,
		routes: time.NewTicker(standard), interfaces: time.NewTicker(standard),
		sets: time.NewTicker(standard), chains: time.NewTicker(standard),
	}
}

func (r *resync) stop() {
	r.routes.Stop()
	r.interfaces.Stop()
	r.sets.Stop()
	r.chains.Stop()
}

// adjust takes over changed periods.
func (r *resync) adjust(snap api.Snapshot) {
	var spec api.FelixConfigurationSpec
	if cfg, ok := snap.FelixConfigurations.Get(api.DefaultName); ok {
		spec = cfg.Spec
	}
	r.set(r.routes, &r.routePeriod, spec.RouteRefreshInterval)
	r.set(r.interfaces, &r.interfacePeriod, spec.InterfaceRefreshInterval)
	r.set(r.sets, &r.setPeriod, spec.IpsetsRefreshInterval)
	r.set(r.chains, &r.chainPeriod, spec.IptablesRefreshInterval)
}

// set applies one period; more than MaxResync would make /livez fail between two of them.
func (r *resync) set(t *time.Ticker, have *time.Duration, d *metav1.Duration) {
	want := r.standard
	if d != nil && d.Duration > 0 {
		want = min(d.Duration, MaxResync)
	}
	if want != *have {
		*have = want
		t.Reset(want)
	}
}
