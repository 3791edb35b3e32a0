// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"korat/api"
	"korat/felix/reconcile"
	"korat/policy/chain"
	"korat/test/netns"
)

// TestRefused wants what iptables or the kernel refuses to be closed, and everything else to be written.
func TestRefused(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, h filterHost) {
		config := h.config()
		config.Retry = time.Hour
		table := h.chains(config)
		step := reconcile.NewStep("chains", table)
		inSet := chain.NewRule("", accept, chain.InSet{Set: "cali40s:missing"})
		bad := chains{
			// iptables refuses a set that does not exist, and the kernel a look at the route back here.
			key(api.IPv4, chain.Filter, "cali-tw-set"):   rules(from("a"), inSet),
			key(api.IPv4, chain.Filter, "cali-tw-route"): rules(from("a"), chain.NewRule("", drop, chain.Spoofed{})),
			// We ourselves what can't be meant, and iptables what leads nowhere.
			key(api.IPv4, chain.Filter, "cali-tw-name"): rules(from("no interface")),
			key(api.IPv4, chain.Filter, "cali-tw-lost"): rules(from("a"), chain.NewRule("", jump("cali-nowhere"))),
			key(api.IPv4, chain.NAT, "cali-nat"):        rules(inSet),
		}
		want := chains{}
		for k, c := range bad {
			want[k] = c
		}
		good := 0
		for k, c := range both(small) {
			want[k] = c
			good++
		}
		result, err := step.Apply(t.Context(), want, nil)
		equal(t, "first", reconcile.Result{Read: true, Set: good, Failed: len(bad)}, result)
		check := func(err error) {
			t.Helper()
			var failed *reconcile.WriteError[chain.Key]
			if !errors.As(err, &failed) || len(failed.Failed) != len(bad) {
				t.Fatalf("have %v", err)
			}
			for name, reason := range map[string]string{
				"cali-tw-set": "cali40s:missing", "cali-tw-name": "no interface", "cali-tw-lost": "cali-nowhere", "cali-tw-route": "restore: ",
			} {
				k := key(api.IPv4, chain.Filter, name)
				if err := failed.Failed[k]; err == nil || !strings.HasPrefix(err.Error(), k.String()+": ") || !strings.Contains(err.Error(), reason) {
					t.Errorf("%s: have %v", name, err)
				}
			}
		}
		check(err)
		text := h.saved(api.IPv4)
		for name := range bad {
			drop := "-A " + name.Name + " -m comment --comment \"refused by the kernel\" -j DROP\n"
			if name.Table == chain.NAT {
				drop = strings.Replace(drop, "DROP", "RETURN", 1)
			}
			if !strings.Contains(text, drop) || strings.Count(text, "-A "+name.Name+" ") != 1 {
				t.Errorf("%s is open:\n%s", name.Name, text)
			}
		}
		for line := range strings.Lines(smallText) {
			if !strings.Contains(text, line) {
				t.Errorf("missing: %s", line)
			}
		}

		// Others are written beside them, and they are not tried again each time.
		writer := h.writer()
		want[key(api.IPv4, chain.Filter, "cali-new")] = rules(from("a"))
		more := chains{}
		for k, c := range want {
			more[k] = c
		}
		result, err = step.Apply(t.Context(), more, nil)
		equal(t, "more", reconcile.Result{Set: 1, Failed: len(bad)}, result)
		check(err)
		equal(t, "the writer", writer, h.writer())

		// Another text is tried at once.
		name := key(api.IPv4, chain.Filter, "cali-tw-set")
		mended := chains{}
		for k, c := range more {
			mended[k] = c
		}
		mended[name] = rules(from("a"), from("b"))
		result, err = step.Apply(t.Context(), mended, nil)
		if result.Set != 1 || result.Failed != len(bad)-1 || err == nil {
			t.Errorf("mended: have %+v, %v", result, err)
		}
		if text := h.saved(api.IPv4); !strings.Contains(text, "-A cali-tw-set -i a -j DROP\n-A cali-tw-set -i b -j DROP\n") {
			t.Errorf("have %s", text)
		}
	})
}

// TestDistrusted closes the chains that look into a set that is not as it must be, and no others.
func TestDistrusted(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, h filterHost) {
		config := h.config()
		config.Retry = time.Hour // it is not for the kernel to say when all is well
		table := h.chains(config)
		step := reconcile.NewStep("chains", table)
		h.Run("ipset", "create", "cali40s:full", "hash:net")
		into, other := key(api.IPv4, chain.Filter, "cali-tw-set"), key(api.IPv4, chain.Filter, "cali-tw-other")
		want := chains{
			into:  rules(chain.NewRule("", accept, chain.InSet{Set: "cali40s:full"})),
			other: rules(from("a")),
		}
		apply(t, step, want)
		closed := "-A cali-tw-set -m comment --comment \"refused by the kernel\" -j DROP\n"
		table.Distrust(map[string]error{"cali40s:full": errors.New("the set is full")})
		step.Touch(func(k chain.Key, _ *chain.Chain) bool { return k == into })
		result, err := step.Apply(t.Context(), want, nil)
		var failed *reconcile.WriteError[chain.Key]
		if !errors.As(err, &failed) || len(failed.Failed) != 1 || failed.Failed[into].Error() != "IPv4 filter cali-tw-set: the set is full" {
			t.Errorf("have %+v, %v", result, err)
		}
		if text := h.saved(api.IPv4); !strings.Contains(text, closed) || !strings.Contains(text, "-A cali-tw-other -i a -j DROP\n") {
			t.Errorf("have %s", text)
		}
		table.Distrust(nil)
		equal(t, "afterwards", reconcile.Result{Set: 1}, apply(t, step, want))
		if text := h.saved(api.IPv4); strings.Contains(text, closed) {
			t.Errorf("have %s", text)
		}
	})
}

// TestRefusedIsTriedAgain has the reason go away.
func TestRefusedIsTriedAgain(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, h filterHost) {
		config := h.config()
		config.Retry = 100 * time.Millisecond
		step := reconcile.NewStep("chains", h.chains(config))
		name := key(api.IPv4, chain.Filter, "cali-tw-set")
		want := chains{name: rules(chain.NewRule("", accept, chain.InSet{Set: "cali40s:late"}))}
		if _, err := step.Apply(t.Context(), want, nil); err == nil {
			t.Fatal("no error")
		}
		h.Run("ipset", "create", "cali40s:late", "hash:net")
		var result reconcile.Result
		netns.WaitFor(t, "another try", func() (done bool) {
			var err error
			result, err = step.Apply(t.Context(), want, nil)
			return err == nil
		})
		equal(t, "result", reconcile.Result{Set: 1}, result)
		if text := h.saved(api.IPv4); !strings.Contains(text, "-A cali-tw-set -m set --match-set cali40s:late src -j ACCEPT\n") {
			t.Errorf("have %s", text)
		}
	})
}

// TestRefusedAtAHook wants a chain that sees all of the host's traffic to be closed to pods alone.
func TestRefusedAtAHook(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, h filterHost) {
		step := reconcile.NewStep("chains", h.chains(h.config()))
		want, text := chains{}, ""
		for _, hook := range []string{"INPUT", "FORWARD", "OUTPUT"} {
			want[key(api.IPv4, chain.Filter, hook)] = rules(chain.NewRule("", jump("cali-"+hook)))
			want[key(api.IPv4, chain.Filter, "cali-"+hook)] = rules(chain.NewRule("", drop, chain.InSet{Set: "cali40s:missing"}))
			text += "-A " + hook + " -j cali-" + hook + "\n"
		}
		const comment = ` -m comment --comment "refused by the kernel" -j DROP`
		text += "-A cali-FORWARD -i cali+" + comment + "\n-A cali-FORWARD -o cali+" + comment + "\n" +
			"-A cali-INPUT -i cali+" + comment + "\n-A cali-OUTPUT -o cali+" + comment + "\n"
		result, err := step.Apply(t.Context(), want, nil)
		if result.Set != 3 || result.Failed != 3 || err == nil {
			t.Errorf("have %+v, %v", result, err)
		}
		have := ""
		for line := range strings.Lines(tables(h.saved(api.IPv4))) {
			if strings.HasPrefix(line, "-A ") {
				have += line
			}
		}
		equal(t, "rules", sorted(text), sorted(have))
	})
}

// TestChainThatOthersUse can't be removed.
func TestChainThatOthersUse(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, h filterHost) {
		config := h.config()
		config.Retry = 50 * time.Millisecond
		step := reconcile.NewStep("chains", h.chains(config))
		used := key(api.IPv4, chain.Filter, "cali-used")
		apply(t, step, chains{used: rules(from("a")), key(api.IPv4, chain.Filter, "cali-b"): rules(from("a"))})
		h.iptables("-N THEIRS")
		h.iptables("-A THEIRS -j cali-used")
		_, err := step.Apply(t.Context(), nil, nil)
		var failed *reconcile.WriteError[chain.Key]
		if !errors.As(err, &failed) || len(failed.Failed) != 1 || failed.Failed[used] == nil {
			t.Errorf("have %v", err)
		}
		if text := h.saved(api.IPv4); strings.Contains(text, "cali-b") || !strings.Contains(text, "-A cali-used -i a -j DROP") {
			t.Errorf("have %s", text)
		}
		h.iptables("-F THEIRS")
		netns.WaitFor(t, "another try", func() bool {
			_, err := step.Apply(t.Context(), chains{}, nil)
			return err == nil
		})
		if text := h.saved(api.IPv4); strings.Contains(text, "cali-used") {
			t.Errorf("have %s", text)
		}
	})
}
