// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"korat/api"
	"korat/felix/kernel"
	"korat/felix/reconcile"
	"korat/policy/chain"
)

// TestAutoChains goes over from one backend to the other, and wants none to be cleared before the other one is written.
func TestAutoChains(t *testing.T) {
	t.Parallel()
	h := newFilterHost(t, kernel.NFT)
	want := both(small)
	for _, to := range []kernel.Backend{kernel.NFT, kernel.Legacy, kernel.NFT} {
		here, there := h.on(to), h.on(otherOf(to))
		table := h.handle.AutoChains(slog.New(slog.DiscardHandler))
		defer table.Close()
		if changed, err := table.Want(string(to)); !changed || err != nil {
			t.Fatal(changed, err)
		}
		before := there.saved(api.IPv4)
		if have, err := table.Read(t.Context()); len(have) != 0 || err != nil {
			t.Errorf("%s: have %d chains, %v", to, len(have), err)
		}
		equal(t, "before all is written", before, there.saved(api.IPv4))
		step := reconcile.NewStep("chains", table)
		apply(t, step, want)
		equal(t, "written", tables(smallText), tables(here.saved(api.IPv4)))
		if text := there.saved(api.IPv4) + there.saved(api.IPv6); strings.Contains(text, "cali") {
			t.Errorf("%s: left in the other: %s", to, text)
		}
	}
	// A restart that finds everything as wanted has nothing to write, and sweeps as well.
	there := h.on(kernel.Legacy)
	there.restoreText("*filter\n:cali-old - [0:0]\nCOMMIT\n")
	table := h.handle.AutoChains(slog.New(slog.DiscardHandler))
	defer table.Close()
	if _, err := table.Want(string(kernel.NFT)); err != nil {
		t.Fatal(err)
	}
	step := reconcile.NewStep("chains", table)
	written := h.handle.Writes().Chains
	equal(t, "restart", reconcile.Result{Read: true}, apply(t, step, want))
	equal(t, "writes", written, h.handle.Writes().Chains)
	if !strings.Contains(there.saved(api.IPv4), "cali-old") {
		t.Error("the other was cleared before this one was found complete")
	}
	step.Invalidate()
	equal(t, "resync", reconcile.Result{Read: true}, apply(t, step, want))
	if text := there.saved(api.IPv4); strings.Contains(text, "cali-old") {
		t.Errorf("left in the other: %s", text)
	}
	if changed, err := table.Want(string(kernel.NFT)); changed || err != nil {
		t.Errorf("the same again: %t, %v", changed, err)
	}
	if _, err := table.Counter()(t.Context(), key(api.IPv4, "filter", "cali-FORWARD")); err != nil {
		t.Error(err)
	}
}

// TestRefusedHookKeepsTheOther: where nothing leads to our chains, those of the other backend are all that there is.
func TestRefusedHookKeepsTheOther(t *testing.T) {
	t.Parallel()
	h := newFilterHost(t, kernel.NFT)
	there := h.on(kernel.Legacy)
	there.restoreText("*filter\n:cali-FORWARD - [0:0]\n-A FORWARD -j cali-FORWARD\nCOMMIT\n")
	table := h.handle.AutoChains(slog.New(slog.DiscardHandler))
	defer table.Close()
	if _, err := table.Want(string(kernel.NFT)); err != nil {
		t.Fatal(err)
	}
	want := chains{
		key(api.IPv4, chain.Filter, "cali-FORWARD"): rules(from("a")),
		key(api.IPv4, chain.Filter, "FORWARD"):      rules(chain.NewRule("", jump("cali-FORWARD"), chain.InSet{Set: "cali40s:missing"})),
	}
	step := reconcile.NewStep("chains", table)
	if _, err := step.Apply(t.Context(), want, nil); err == nil || kernel.Closed(err) || !strings.Contains(err.Error(), "cali40s:missing") {
		t.Errorf("have %v", err)
	}
	if text := there.saved(api.IPv4); !strings.Contains(text, "-j cali-FORWARD") {
		t.Errorf("cleared:\n%s", text)
	}
	apply(t, step, chains{key(api.IPv4, chain.Filter, "cali-FORWARD"): rules(from("b"))})
	if text := there.saved(api.IPv4); strings.Contains(text, "cali") {
		t.Errorf("left in the other: %s", text)
	}
}

// A table that goes over to the other backend is read anew, although it has been asked meanwhile what rules can match there.
func TestChangeOfBackendIsRead(t *testing.T) {
	t.Parallel()
	h := newFilterHost(t, kernel.NFT)
	for _, to := range []kernel.Backend{kernel.NFT, kernel.Legacy, kernel.NFT} {
		table := h.handle.AutoChains(slog.New(slog.DiscardHandler))
		defer table.Close()
		step := reconcile.NewStep("chains", table)
		for _, b := range []kernel.Backend{otherOf(to), to} {
			if _, err := table.Want(string(b)); err != nil {
				t.Fatal(err)
			}
			if able, err := table.Groups(t.Context(), api.Families()); !able || err != nil {
				t.Errorf("%s: rules match groups: %t, %v", b, able, err)
			}
			step.Invalidate()
			apply(t, step, both(small))
			here, there := h.on(b), h.on(otherOf(b))
			equal(t, string(b), tables(smallText), tables(here.saved(api.IPv4)))
			if text := there.saved(api.IPv4); strings.Contains(text, "cali") {
				t.Errorf("%s: left in the other: %s", b, text)
			}
		}
	}
}

// While somebody holds iptables' lock there is no answer whether rules can match link groups: it is asked for again.
func TestGroupsAreAskedForAgain(t *testing.T) {
	h := newFilterHost(t, kernel.NFT)
	dir, path := t.TempDir(), os.Getenv("PATH")
	script := "#!/bin/sh\n[ -e " + dir + "/asked ] && PATH=" + path + " exec iptables-nft-restore \"$@\"\ntouch " + dir + "/asked\nexit 4\n"
	if err := os.WriteFile(filepath.Join(dir, "iptables-nft-restore"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+path)
	table := h.handle.AutoChains(slog.New(slog.DiscardHandler))
	defer table.Close()
	if _, err := table.Want(string(kernel.NFT)); err != nil {
		t.Fatal(err)
	}
	if able, err := table.Groups(t.Context(), api.Families()); able || err == nil {
		t.Errorf("without an answer: %t, %v", able, err)
	}
	if able, err := table.Groups(t.Context(), api.Families()); !able || err != nil {
		t.Errorf("with an answer: %t, %v", able, err)
	}
}
