// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"korat/api"
	"korat/felix/kernel"
	"korat/felix/reconcile"
	"korat/policy"
	"korat/policy/chain"
)

// TestRemove has all that is ours in the packet filter removed, of both backends and families, and nothing of others.
func TestRemove(t *testing.T) {
	t.Parallel()
	h := newFilterHost(t, kernel.NFT)
	if chains, err := h.handle.RemoveChains(t.Context(), h.config()); chains != 0 || err != nil {
		t.Errorf("of a host without any: have %d, %v", chains, err)
	}
	if text := h.legacyTables(); text != "" {
		t.Errorf("it has made tables: %s", text)
	}
	hosts := []filterHost{h, h.on(kernel.Legacy)}
	h.Run("ipset", "create", "theirs", "hash:ip")
	for _, h := range hosts {
		h.restoreText(kubeProxy)
	}
	before := tables(hosts[0].saved(api.IPv4)) + tables(hosts[1].saved(api.IPv4))
	set := policy.SetKey{Name: "cali40s:web", Family: api.IPv4}
	if err := h.handle.Sets(0).Write(t.Context(), []kernel.SetChange{{Key: set, Replace: true}}); err != nil {
		t.Fatal(err)
	}
	for _, h := range hosts {
		want := both(small)
		want[key(api.IPv4, chain.Filter, "cali-web")] = rules(chain.NewRule("", drop, chain.InSet{Set: set.Name}))
		apply(t, reconcile.NewStep("chains", h.chains(h.config())), want)
	}
	h.restoreText("*filter\n-A KUBE-FORWARD -m set --match-set cali40s:web src -j DROP\nCOMMIT\n")

	if chains, err := h.handle.RemoveChains(t.Context(), h.config()); chains != 2*(2*7+1) || err != nil {
		t.Errorf("have %d, %v", chains, err)
	}
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := h.handle.RemoveSets(short); err == nil || !strings.Contains(err.Error(), "destroy set cali40s:web: rules refer to it") {
		t.Errorf("a set that others use: have %v", err)
	}
	h.iptables("-D KUBE-FORWARD -m set --match-set cali40s:web src -j DROP")
	if sets, err := h.handle.RemoveSets(t.Context()); sets != 1 || err != nil {
		t.Errorf("have %d, %v", sets, err)
	}
	empty := strings.NewReplacer("*raw\n:PREROUTING ACCEPT\n:OUTPUT ACCEPT\nCOMMIT\n", "")
	equal(t, "what others have", before, tables(empty.Replace(hosts[0].saved(api.IPv4)))+tables(empty.Replace(hosts[1].saved(api.IPv4))))
	for _, h := range hosts {
		if text := h.saved(api.IPv6); strings.Contains(text, "cali") {
			t.Errorf("left: %s", text)
		}
	}
	equal(t, "sets", "theirs\n", h.Run("ipset", "list", "-n"))
}
