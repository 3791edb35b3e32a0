// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"errors"
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"korat/felix/dataplane"
	"korat/felix/kernel"
	"korat/felix/reconcile"
	"korat/policy/chain"
)

// PolicyStatus is what there is of policies on this node.
type PolicyStatus struct {
	// Active is how many policies apply to an endpoint of this node; the others have no rules here.
	Active  int `json:"active"`
	Chains  int `json:"chains"`
	Rules   int `json:"rules"`
	Sets    int `json:"sets"`
	Members int `json:"members"`
	// Backend is the one of iptables that is used, and Reason why.
	Backend string `json:"backend,omitempty"`
	Reason  string `json:"reason,omitempty"`
	// Cut counts the established flows that were ended since the agent's start, for policies forbid them.
	Cut uint64 `json:"cut"`
	// Refused are the chains that are not in the kernel as they must be. What needs them is closed.
	Refused []RefusedChain `json:"refused,omitempty"`
}

// RefusedChain is a chain that is closed.
type RefusedChain struct {
	Chain  string `json:"chain"`
	Reason string `json:"reason"`
}

// policyStatus takes the picture; err is what single chains and sets failed with.
func (a *Agent) policyStatus(err error) PolicyStatus {
	size := a.memos.filter.Size()
	s := PolicyStatus{
		Active: size.Policies, Chains: size.Chains, Rules: size.Rules, Sets: size.Sets, Members: size.Members,
		Refused: refusedChains(err), Cut: a.memos.revoked.Cut,
	}
	if table, ok := a.Tables.Chains.(interface{ Choice() kernel.Choice }); ok {
		choice := table.Choice()
		s.Backend, s.Reason = string(choice.Backend), choice.Reason
	}
	return s
}

func refusedChains(err error) []RefusedChain {
	if err == nil {
		return nil
	}
	failed := map[chain.Key]error{}
	for _, step := range unjoin(err) {
		var chains *reconcile.WriteError[chain.Key]
		if errors.As(step, &chains) {
			maps.Copy(failed, chains.Failed)
		}
	}
	var all []RefusedChain
	for _, key := range slices.SortedFunc(maps.Keys(failed), chain.Key.Compare) {
		all = append(all, RefusedChain{key.String(), failed[key].Error()})
	}
	return all
}

// ipvsInterface has the addresses of services on hosts whose kube-proxy works with IPVS.
const ipvsInterface = "kube-ipvs0"

// bypasses says what there is on this host that packets get past policies by. What IPVS sends on is the host's own to the
// packet filter: it comes in by INPUT and leaves by OUTPUT, and what a host sends to its own pods is not policed.
func bypasses(h dataplane.Host) []string {
	if _, there := h.Links[ipvsInterface]; !there {
		return nil
	}
	return []string{"policy: the interface " + ipvsInterface + " is there: if kube-proxy works with IPVS, connections to services get past the ingress " +
		"policies of this node's pods: have it work with iptables or nftables, then delete the interface"}
}

// policyMetrics are those of PolicyStatus.
type policyMetrics struct {
	active, chains, rules, sets, members, faults, refused prometheus.Gauge
}

func newPolicyMetrics() policyMetrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	return policyMetrics{
		active:  gauge("korat_active_policies", "Policies that apply to an endpoint of this node."),
		chains:  gauge("korat_chains", "Chains of iptables that are wanted."),
		rules:   gauge("korat_rules", "Rules in these chains."),
		sets:    gauge("korat_sets", "IP sets that are wanted."),
		members: gauge("korat_set_members", "Members of these sets."),
		faults:  gauge("korat_policy_faults", "Objects that are not understood whole: what they would allow is denied."),
		refused: gauge("korat_refused_chains", "Chains that are not in the kernel as they must be: what needs them is closed."),
	}
}

// collectors are all of them.
func (m policyMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.active, m.chains, m.rules, m.sets, m.members, m.faults, m.refused}
}

func (m policyMetrics) set(s PolicyStatus, faults int) {
	for g, v := range map[prometheus.Gauge]int{
		m.active: s.Active, m.chains: s.Chains, m.rules: s.Rules, m.sets: s.Sets, m.members: s.Members,
		m.faults: faults, m.refused: len(s.Refused),
	} {
		g.Set(float64(v))
	}
}

// countCut exports how many flows were cut.
func (r *report) countCut(cut func() uint64) {
	r.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "korat_flows_cut_total", Help: "Established flows that were ended because policies forbid them.",
	}, func() float64 { return float64(cut()) }))
}
