// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"strings"
	"testing"

	"korat/api"
	"korat/felix/kernel"
	"korat/felix/reconcile"
)

// on gives the same namespace with the other backend.
func (h filterHost) on(b kernel.Backend) filterHost {
	h.backend = b
	return h
}

// otherOf gives the backend that a test is not of.
func otherOf(b kernel.Backend) kernel.Backend {
	if b == kernel.NFT {
		return kernel.Legacy
	}
	return kernel.NFT
}

func TestSweep(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, h filterHost) {
		other := h.on(otherOf(h.backend))
		other.restoreText(kubeProxy)
		before := other.saved(api.IPv4)
		apply(t, reconcile.NewStep("chains", other.chains(other.config())), both(small))
		// What is ours by where it leads, and a rule of ours among others.
		other.restoreText("*filter\n:cali-old - [0:0]\n-A INPUT -j cali-old\n-A KUBE-FORWARD -i x -g cali-old\n" +
			"-A KUBE-FIREWALL -m comment --comment cali:abcdefghijklmnop -j DROP\nCOMMIT\n")

		table := h.chains(h.config())
		step := reconcile.NewStep("chains", table)
		apply(t, step, both(small))
		ours := h.saved(api.IPv4)
		removed, err := table.Sweep(t.Context())
		if err != nil || removed != 2*7+4 { // and INPUT, KUBE-FORWARD, KUBE-FIREWALL, cali-old
			t.Errorf("have %d, %v", removed, err)
		}
		swept := tables(strings.ReplaceAll(other.saved(api.IPv4), "*raw\n:PREROUTING ACCEPT\n:OUTPUT ACCEPT\nCOMMIT\n", ""))
		equal(t, "the other backend", tables(before), swept)
		if text := other.saved(api.IPv6); strings.Contains(text, "cali") {
			t.Errorf("left: %s", text)
		}
		equal(t, "this backend", ours, h.saved(api.IPv4))
		if removed, err := table.Sweep(t.Context()); removed != 0 || err != nil {
			t.Errorf("again: have %d, %v", removed, err)
		}
	})
}

// legacyTables is what the kernel says of the legacy backend's tables.
func (h filterHost) legacyTables() string {
	h.t.Helper()
	return h.Run("sh", "-c", "cat /proc/net/ip_tables_names /proc/net/ip6_tables_names")
}

// TestNothingIsMade wants looking around to leave no trace.
func TestNothingIsMade(t *testing.T) {
	t.Parallel()
	h := newFilterHost(t, kernel.NFT)
	table := h.chains(h.config())
	if removed, err := table.Sweep(t.Context()); removed != 0 || err != nil {
		t.Errorf("sweep: have %d, %v", removed, err)
	}
	if _, err := table.Read(t.Context()); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"", "Auto", "NFT", "Legacy"} {
		if _, err := h.handle.ChooseBackend(t.Context(), want); err != nil {
			t.Error(err)
		}
	}
	legacy := h.on(kernel.Legacy)
	old := legacy.chains(legacy.config())
	if removed, err := old.Sweep(t.Context()); removed != 0 || err != nil {
		t.Errorf("sweep: have %d, %v", removed, err)
	}
	if _, err := old.Read(t.Context()); err != nil {
		t.Error(err)
	}
	equal(t, "legacy tables", "", h.legacyTables())
	equal(t, "nft tables", "", h.saved(api.IPv4)+h.saved(api.IPv6))
	equal(t, "writes", kernel.Writes{}, h.handle.Writes())
}

func TestChooseBackend(t *testing.T) {
	t.Parallel()
	const some, more = "*filter\n-A INPUT -i a -j ACCEPT\nCOMMIT\n", "*filter\n-A INPUT -i a -j ACCEPT\n-A INPUT -i b -j ACCEPT\nCOMMIT\n"
	const hint, canary = "*mangle\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT\n", "*mangle\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n"
	const ours = "*filter\n:cali-a - [0:0]\n-A cali-a -i a -j DROP\n-A cali-a -i b -j DROP\n-A INPUT -j cali-a\nCOMMIT\n"
	const bothUsed = "other programs use both of iptables' backends"
	for name, c := range map[string]struct {
		want        string
		nft, legacy string
		backend     kernel.Backend
		reason      string
		warning     string
	}{
		"nothing there":         {"Auto", "", "", kernel.NFT, "nobody else has rules", ""},
		"rules in nft":          {"", some, "", kernel.NFT, "others have 1 rules there, and 0 in Legacy", ""},
		"rules in legacy":       {"", "", some, kernel.Legacy, "others have 1 rules there, and 0 in NFT", ""},
		"more in legacy":        {"", some, more, kernel.Legacy, "others have 2 rules there, and 1 in NFT", bothUsed},
		"ours do not count":     {"", some, ours, kernel.NFT, "others have 1 rules there, and 0 in Legacy", ""},
		"the kubelet's hint":    {"", hint, more, kernel.NFT, "the kubelet's chain KUBE-IPTABLES-HINT is there", ""},
		"hint and rules differ": {"", hint + some, more, kernel.NFT, "the kubelet's chain KUBE-IPTABLES-HINT is there", bothUsed},
		"the kubelet's canary":  {"", some, canary, kernel.Legacy, "the kubelet's chain KUBE-KUBELET-CANARY is there", ""},
		"hints in both":         {"", hint, canary + some, kernel.Legacy, "others have 1 rules there, and 0 in NFT", bothUsed},
		"configured":            {"Legacy", hint + more, "", kernel.Legacy, "configured", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newFilterHost(t, kernel.NFT)
			for _, text := range []struct {
				backend kernel.Backend
				text    string
			}{{kernel.NFT, c.nft}, {kernel.Legacy, c.legacy}} {
				if text.text != "" {
					h.on(text.backend).restoreText(text.text)
				}
			}
			choice, err := h.handle.ChooseBackend(t.Context(), c.want)
			if err != nil || choice.Backend != c.backend || choice.Reason != c.reason || !strings.HasPrefix(choice.Warning, c.warning) || (c.warning == "") != (choice.Warning == "") {
				t.Errorf("have %+v, %v", choice, err)
			}
		})
	}
	h := newFilterHost(t, kernel.NFT)
	if _, err := h.handle.ChooseBackend(t.Context(), "nftables"); err == nil || err.Error() != `iptables backend "nftables": not one of Auto, NFT, Legacy` {
		t.Errorf("have %v", err)
	}
}

// TestEveryRule has all that a rule can say read by iptables, written, and known again.
func TestEveryRule(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, h filterHost) {
		for _, set := range []string{"cali40a hash:net", "cali40b hash:ip,port", "cali40p bitmap:port range 0-65535", "cali60a hash:net family inet6", "cali60b hash:ip,port family inet6"} {
			h.Run(append([]string{"ipset", "create"}, strings.Fields(set)...)...)
		}
		step := reconcile.NewStep("chains", h.chains(h.config()))
		want := both(everything)
		for _, f := range api.Families() {
			text := textOf(t, f, want)
			h.testText(f, text)
			if strings.Contains(h.saved(f), "cali") {
				t.Fatal("a test has written")
			}
		}
		apply(t, step, want)
		step.Invalidate()
		equal(t, "read", reconcile.Result{Read: true}, apply(t, step, want))
		equal(t, "read by another", reconcile.Result{Read: true}, apply(t, reconcile.NewStep("chains", h.chains(h.config())), want))

		// What iptables prints of our rules in others' chains it finds again.
		apply(t, step, nil)
		for _, f := range api.Families() {
			if text := h.saved(f); strings.Contains(text, "-A ") || strings.Contains(text, "cali") {
				t.Errorf("left: %s", text)
			}
		}
		apply(t, step, want)
		restarted := reconcile.NewStep("chains", h.chains(h.config()))
		apply(t, restarted, chains{})
		for _, f := range api.Families() {
			if text := h.saved(f); strings.Contains(text, "-A ") || strings.Contains(text, "cali") {
				t.Errorf("left by one that has only read: %s", text)
			}
		}
	})
}
