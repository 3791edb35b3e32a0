// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"korat/api"
	"korat/felix/kernel"
	"korat/felix/reconcile"
	"korat/policy"
	"korat/policy/chain"
)

type chains = map[chain.Key]*chain.Chain

var (
	drop   = chain.Action{Verb: chain.Drop}
	accept = chain.Action{Verb: chain.Accept}
)

func jump(name string) chain.Action { return chain.Action{Verb: chain.Jump, Text: name} }

func key(f api.Family, table chain.Table, name string) chain.Key {
	return chain.Key{Family: f, Table: table, Name: name}
}

func rules(rs ...chain.Rule) *chain.Chain { return &chain.Chain{Rules: rs} }

// from gives a rule that nothing distinguishes but the interface.
func from(device string) chain.Rule { return chain.NewRule("", drop, chain.In(device)) }

// filterHost is a namespace with the chains of one backend, beside those of others.
type filterHost struct {
	host
	backend kernel.Backend
	handle  *kernel.Handle
	lock    string
}

// newFilterHost makes one whose programs lock a file of its own.
func newFilterHost(t testing.TB, b kernel.Backend) filterHost {
	t.Helper()
	h := newHost(t)
	return filterHost{h, b, h.open(), filepath.Join(t.TempDir(), "xtables.lock")}
}

func (h filterHost) config() kernel.ChainsConfig {
	return kernel.ChainsConfig{Backend: h.backend, LockFile: h.lock}
}

func (h filterHost) chains(c kernel.ChainsConfig) *kernel.Chains {
	h.t.Helper()
	table, err := h.handle.Chains(c)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		if err := table.Close(); err != nil {
			h.t.Error(err)
		}
	})
	return table
}

func (h filterHost) program(f api.Family, suffix string) string {
	name := "iptables-"
	if f == api.IPv6 {
		name = "ip6tables-"
	}
	return name + strings.ToLower(string(h.backend)) + suffix
}

// iptables gives iptables a command, and restoreText a text, as another program would.
func (h filterHost) iptables(command string) {
	h.t.Helper()
	h.Run(append([]string{"env", "XTABLES_LOCKFILE=" + h.lock, h.program(api.IPv4, ""), "-w"}, strings.Fields(command)...)...)
}

func (h filterHost) restoreText(text string) {
	h.t.Helper()
	h.Run("sh", "-c", "exec env XTABLES_LOCKFILE="+h.lock+" "+h.program(api.IPv4, "-restore")+" --noflush -w <<'END'\n"+text+"END")
}

var (
	idComment = regexp.MustCompile(` -m comment --comment "?cali:[A-Za-z0-9_-]{16}"?( -[jg] )`)
	idRemark  = regexp.MustCompile(`"cali:[A-Za-z0-9_-]{16} `)
	noise     = regexp.MustCompile(`(?m)^#.*\n| \[\d+:\d+\]$`)
)

// saved is what iptables-save prints, without IDs, dates and chains' counters.
func (h filterHost) saved(f api.Family) string {
	h.t.Helper()
	text := noise.ReplaceAllString(h.Run(h.program(f, "-save")), "")
	return idRemark.ReplaceAllString(idComment.ReplaceAllString(text, "$1"), `"`)
}

// eachBackend runs a test on both, at the same time as others.
func eachBackend(t *testing.T, test func(t *testing.T, h filterHost)) {
	for _, b := range []kernel.Backend{kernel.NFT, kernel.Legacy} {
		t.Run(string(b), func(t *testing.T) {
			t.Parallel()
			test(t, newFilterHost(t, b))
		})
	}
}

// small is a filter as small as can be, with something in each table.
func small(f api.Family) chains {
	mark := chain.Mark{Value: 0x10000, Mask: 0x10000}
	return chains{
		key(f, chain.Raw, "PREROUTING"):      rules(chain.NewRule("", jump("cali-PREROUTING"))),
		key(f, chain.Raw, "cali-PREROUTING"): rules(chain.NewRule("no spoofing", drop, chain.In("cali+"), chain.Spoofed{})),
		key(f, chain.Filter, "FORWARD"): {
			Rules: []chain.Rule{chain.NewRule("", jump("cali-FORWARD"))},
			Last:  []chain.Rule{chain.NewRule("", accept, mark)},
		},
		key(f, chain.Filter, "cali-FORWARD"): rules(
			chain.NewRule("", accept, chain.In("cali+"), chain.CTState{States: "RELATED,ESTABLISHED"}),
			chain.NewRule("", jump("cali-from-wl-dispatch"), chain.In("cali+")),
		),
		key(f, chain.Filter, "cali-from-wl-dispatch"): rules(
			chain.NewRule("", chain.Action{Verb: chain.Goto, Text: "cali-allow"}, chain.In("cali1")),
			chain.NewRule("", chain.Action{Verb: chain.Report, Group: 2, Text: "D|unknown"}),
			chain.NewRule("Unknown interface", drop),
		),
		key(f, chain.Filter, "cali-allow"): rules(chain.NewRule("", chain.Action{Verb: chain.SetMark, Value: 0x10000, Mask: 0x10000})),
		key(f, chain.NAT, "cali-empty"):    rules(),
	}
}

// both gives what a function gives of both families.
func both(of func(api.Family) chains) chains {
	all := of(api.IPv4)
	for k, c := range of(api.IPv6) {
		all[k] = c
	}
	return all
}

const smallText = `*raw
:PREROUTING ACCEPT
:OUTPUT ACCEPT
:cali-PREROUTING -
-A PREROUTING -j cali-PREROUTING
-A cali-PREROUTING -i cali+ -m rpfilter --validmark --invert -m comment --comment "no spoofing" -j DROP
COMMIT
*nat
:PREROUTING ACCEPT
:INPUT ACCEPT
:OUTPUT ACCEPT
:POSTROUTING ACCEPT
:cali-empty -
COMMIT
*filter
:INPUT ACCEPT
:FORWARD ACCEPT
:OUTPUT ACCEPT
:cali-FORWARD -
:cali-allow -
:cali-from-wl-dispatch -
-A FORWARD -j cali-FORWARD
-A FORWARD -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-FORWARD -i cali+ -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A cali-FORWARD -i cali+ -j cali-from-wl-dispatch
-A cali-allow -j MARK --set-xmark 0x10000/0x10000
-A cali-from-wl-dispatch -i cali1 -g cali-allow
-A cali-from-wl-dispatch -j NFLOG --nflog-prefix "D|unknown" --nflog-group 2
-A cali-from-wl-dispatch -m comment --comment "Unknown interface" -j DROP
COMMIT
`

// tables brings a text of iptables-save's, which prints tables and chains in any order, into one.
func tables(text string) string {
	all := strings.SplitAfter(text, "COMMIT\n")
	for i, table := range all {
		lines := strings.SplitAfter(table, "\n")
		slices.SortStableFunc(lines, func(a, b string) int { return strings.Compare(rank(a), rank(b)) })
		all[i] = strings.Join(lines, "")
	}
	slices.Sort(all)
	return strings.Join(all, "")
}

// rank gives what lines of one table are ordered by: the rules of a chain stay in their order.
func rank(line string) string {
	words := strings.Fields(line + " x")
	if words[0] == "-A" {
		return "~" + words[1]
	}
	return line
}

func TestChains(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, h filterHost) {
		table := h.chains(h.config())
		step := reconcile.NewStep("chains", table)
		want := both(small)
		equal(t, "first", reconcile.Result{Read: true, Set: 14}, apply(t, step, want))
		for _, f := range api.Families() {
			equal(t, f.String(), tables(smallText), tables(h.saved(f)))
		}
		written := h.handle.Writes()
		equal(t, "unchanged", reconcile.Result{}, apply(t, step, want))
		step.Invalidate()
		equal(t, "resync", reconcile.Result{Read: true}, apply(t, step, want))

		restarted := reconcile.NewStep("chains", h.chains(h.config()))
		equal(t, "restarted", reconcile.Result{Read: true}, apply(t, restarted, want))
		equal(t, "writes", written, h.handle.Writes())

		equal(t, "nothing is wanted", reconcile.Result{Deleted: 14}, apply(t, step, nil))
		for _, f := range api.Families() {
			if text := h.saved(f); strings.Contains(text, "-A ") || strings.Contains(text, "cali") {
				t.Errorf("left: %s", text)
			}
		}
	})
}

// note gives a rule that counts every packet and lets it go on.
func note(comment string) chain.Rule {
	return chain.NewRule(comment, chain.Action{Verb: chain.SetMark, Value: 0x10000, Mask: 0x10000}, chain.Out("lo"))
}

func notes(comments string) *chain.Chain {
	c := &chain.Chain{}
	for _, comment := range strings.Fields(comments) {
		c.Rules = append(c.Rules, note(comment))
	}
	return c
}

func TestRulesThatStayKeepTheirCounters(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, h filterHost) {
		table := h.chains(h.config())
		step := reconcile.NewStep("chains", table)
		name, hook := key(api.IPv4, chain.Filter, "cali-a"), rules(chain.NewRule("", jump("cali-a")))
		apply(t, step, chains{key(api.IPv4, chain.Filter, "OUTPUT"): hook, name: notes("o1 k1 k2 k3 o2 k4")})
		h.Run("ping", "-c", "3", "-i", "0.01", "127.0.0.1")

		before := h.handle.Writes().Chains
		want := notes("k1 n1 n2 k2 k3 n3 k4 n4")
		apply(t, step, chains{key(api.IPv4, chain.Filter, "OUTPUT"): hook, name: want})
		// n4 after all, n3 in the place of o2, n1 and n2 before k2, and o1 gone
		equal(t, "commands", before+5, h.handle.Writes().Chains)

		counters, err := table.Counters(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "rules", len(want.Rules), len(counters))
		for i, c := range counters {
			kept := strings.HasPrefix(want.Rules[i].Comment, "k")
			if c.ID != want.Rules[i].ID || kept != (c.Packets >= 6 && c.Bytes >= 6*84) || !kept && c.Packets != 0 {
				t.Errorf("rule %s: have %+v", want.Rules[i].Comment, c)
			}
		}
		counters, err = table.Counters(t.Context(), key(api.IPv4, chain.Filter, "OUTPUT"))
		if err != nil || len(counters) != 1 || counters[0].ID != hook.Rules[0].ID || counters[0].Packets < 6 {
			t.Errorf("hook: have %+v, %v", counters, err)
		}
		counters, err = table.Counters(t.Context(), key(api.IPv6, chain.NAT, "cali-none"))
		if err != nil || len(counters) != 0 {
			t.Errorf("no chain: have %+v, %v", counters, err)
		}
	})
}

// TestHooksAreNamedAsWritten changes and removes rules of ours in one of the kernel's own chains, which are named by all that they
// say, without reading them in between.
func TestHooksAreNamedAsWritten(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, h filterHost) {
		step, own, hook := reconcile.NewStep("chains", h.chains(h.config())), key(api.IPv4, chain.Filter, "cali-a"), key(api.IPv4, chain.Filter, "FORWARD")
		last := []chain.Rule{chain.NewRule("", chain.Action{}, chain.Mark{Value: 1, Mask: 1})}
		want := chains{own: notes("n"), hook: {Rules: []chain.Rule{chain.NewRule("", jump("cali-a"))}, Last: last}}
		apply(t, step, want)
		for what, first := range map[string]chain.Rule{
			"with a condition":      chain.NewRule("", jump("cali-a"), chain.In("cali+")),
			"with something to say": chain.NewRule("for people", jump("cali-a")),
		} {
			before := h.handle.Writes().Chains
			want = maps.Clone(want)
			want[hook] = &chain.Chain{Rules: []chain.Rule{first}, Last: last}
			apply(t, step, want)
			equal(t, what+": commands", before+4, h.handle.Writes().Chains) // two go, two come; more if it took a second time
		}
		before := h.handle.Writes().Chains
		apply(t, step, chains{own: want[own]})
		equal(t, "removed: commands", before+2, h.handle.Writes().Chains)
	})
}

// TestManyRules writes 2,000 rules at once, and changes a part of them.
func TestManyRules(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, h filterHost) {
		step := reconcile.NewStep("chains", h.chains(h.config()))
		want := manyChains(100)
		equal(t, "first", reconcile.Result{Read: true, Set: 102}, apply(t, step, want))
		equal(t, "101 chains, their rules, the root's and the hook", 101+2000+100+1, int(h.handle.Writes().Chains))
		equal(t, "rules", 2000+100+1, strings.Count(h.saved(api.IPv4), "-A "))

		want = maps.Clone(want)
		for i := range 10 {
			k := key(api.IPv4, chain.Filter, fmt.Sprint("cali-", i))
			want[k] = rules(append(want[k].Rules[:10:10], from("new"))...)
		}
		delete(want, key(api.IPv4, chain.Filter, "cali-99"))
		root := key(api.IPv4, chain.Filter, "cali-FORWARD")
		want[root] = rules(want[root].Rules[:99]...)
		equal(t, "changed", reconcile.Result{Set: 11, Deleted: 1}, apply(t, step, want))
		step.Invalidate()
		equal(t, "resync", reconcile.Result{Read: true}, apply(t, step, want))
		equal(t, "read by another", reconcile.Result{Read: true}, apply(t, reconcile.NewStep("chains", h.chains(h.config())), want))
	})
}

// manyChains gives so many chains of twenty rules, one that leads to them, and a hook.
func manyChains(n int) chains {
	root := &chain.Chain{}
	want := chains{
		key(api.IPv4, chain.Filter, "FORWARD"):      rules(chain.NewRule("", jump("cali-FORWARD"))),
		key(api.IPv4, chain.Filter, "cali-FORWARD"): root,
	}
	for i := range n {
		c, name := &chain.Chain{}, fmt.Sprint("cali-", i)
		for j := range 20 {
			c.Rules = append(c.Rules, chain.NewRule("", drop, chain.Proto{Number: policy.TCP}, chain.Ports{
				Side: chain.Destination, Ranges: []policy.PortRange{{First: uint16(j), Last: uint16(j)}, {First: 9000, Last: uint16(9000 + i)}},
			}))
		}
		want[key(api.IPv4, chain.Filter, name)] = c
		root.Rules = append(root.Rules, chain.NewRule("", jump(name), chain.In(fmt.Sprint("cali", i))))
	}
	return want
}

func TestChainsErrors(t *testing.T) {
	t.Parallel()
	h := newFilterHost(t, kernel.NFT)
	if _, err := h.handle.Chains(kernel.ChainsConfig{Backend: "eBPF"}); err == nil {
		t.Error("a backend that does not exist is used")
	}
	table := h.chains(h.config())
	err := table.Write(t.Context(), reconcile.Diff[chain.Key, *chain.Chain]{Set: chains{
		key(api.IPv4, "broute", "cali-a"):                            rules(from("a")),
		key(api.IPv4, chain.Filter, "cali-\n-A FORWARD"):             rules(),
		key(api.IPv4, chain.Filter, "cali-a"):                        rules(from("a")),
		key(api.IPv6, chain.Filter, "cali-"+strings.Repeat("x", 24)): rules(),
	}})
	if err == nil || !strings.Contains(err.Error(), `IPv4 broute cali-a: table "broute": not one of [raw mangle nat filter]`) || !strings.Contains(err.Error(), "not a name of 1 to 28 bytes") {
		t.Errorf("have %v", err)
	}
	if text := h.saved(api.IPv4); !strings.Contains(text, "-A cali-a -i a -j DROP") {
		t.Errorf("the good one is missing:\n%s", text)
	}
	if _, err := table.Counters(t.Context(), chain.Key{Table: chain.Filter, Name: "cali-a"}); err == nil {
		t.Error("counters of no family")
	}
}
