// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"korat/api"
	"korat/felix/reconcile"
	"korat/policy/chain"
	"korat/policy/compile"
	"korat/policy/policytest"
	"korat/policy/render"
)

// goldens is where package compile has its cases.
const goldens = "../../policy/compile/testdata/*.txtar"

// TestGoldens has iptables-restore --test read what each of package compile's cases comes to, in both families, with the
// sets there that its rules look into; then each is written in the place of the one before, over the states in between, and known
// again.
func TestGoldens(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(goldens)
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	eachBackend(t, func(t *testing.T, h filterHost) {
		step := reconcile.NewStep("chains", h.chains(h.config()))
		var was map[chain.Key]*chain.Chain
		between := map[string]int{}
		for _, file := range files {
			name := strings.TrimSuffix(filepath.Base(file), ".txtar")
			g := policytest.ReadGolden(t, file)
			g.Options.Families = api.Families()
			c := g.Compile(t)
			h.createSets(c)
			for _, f := range api.Families() {
				h.testText(f, textOf(t, f, c.Chains()))
			}
			for _, state := range compile.Transition(was, c.Chains(), reconcile.Compare(c.Chains(), was, nil).Keys()) {
				apply(t, step, state)
				for key := range state {
					between[string(key.Table)+" "+key.Name[:min(len(key.Name), len("cali-1st"))]]++
				}
			}
			was = maps.Clone(c.Chains())
			apply(t, step, was)
			step.Invalidate()
			equal(t, name+" read", reconcile.Result{Read: true}, apply(t, step, maps.Clone(c.Chains())))
		}
		apply(t, step, nil)
		for _, want := range []string{"mangle cali-1st", "mangle cali-2nd", "mangle cali-too", "filter cali-1st", "filter cali-2nd"} {
			if between[want] == 0 {
				t.Errorf("no state in between has %q", want)
			}
		}
	})
}

// createSets makes the sets of a Compiler that are not there yet.
func (h filterHost) createSets(c *compile.Compiler) {
	h.t.Helper()
	var text strings.Builder
	for key := range c.Sets() {
		set, err := render.Set(key, slices.Collect(c.Members(key)))
		if err != nil {
			h.t.Fatal(err)
		}
		text.WriteString(set)
	}
	h.Run("sh", "-c", "exec ipset restore -exist <<'END'\n"+text.String()+"END")
}

// testText has iptables-restore read a text without writing it.
func (h filterHost) testText(f api.Family, text string) {
	h.t.Helper()
	h.Run("sh", "-c", "exec env XTABLES_LOCKFILE="+h.lock+" "+h.program(f, "-restore")+" --test --noflush -w <<'END'\n"+text+"END")
}

// TestGoldensSayEverything holds that the cases have every sort of rule that package compile makes, each kind of set and
// every place of an endpoint's chain: what is missing there nobody has read.
func TestGoldensSayEverything(t *testing.T) {
	files, err := filepath.Glob(goldens)
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, file := range files {
		g := policytest.ReadGolden(t, file)
		g.Options.Families = api.Families()
		c := g.Compile(t)
		for key, ch := range c.Chains() {
			have[string(key.Table)+" "+stem(key)] = true
			for _, r := range slices.Concat(ch.Rules, ch.Last) {
				have["-j "+verb(r.Action)] = true
			}
		}
		for key := range c.Sets() {
			kind, _, _ := strings.Cut(key.Name, ":")
			have["set "+kind] = true
		}
	}
	for _, want := range []string{
		"raw cali-PREROUTING", "raw cali-OUTPUT", "raw cali-from-host-endpoint", "raw cali-to-host-endpoint", "raw cali-fh", "raw cali-th",
		"raw cali-failsafe-in", "raw cali-failsafe-out", "raw cali-pi", "raw cali-po",
		"mangle cali-PREROUTING", "mangle cali-POSTROUTING", "mangle cali-from-host-endpoint", "mangle cali-to-host-endpoint",
		"mangle cali-fh", "mangle cali-th", "mangle cali-pi", "mangle cali-po",
		"filter cali-INPUT", "filter cali-FORWARD", "filter cali-OUTPUT", "filter cali-tracked", "filter cali-wl-to-host",
		"filter cali-from-wl-dispatch", "filter cali-to-wl-dispatch", "filter cali-fw", "filter cali-tw", "filter cali-cidr-block",
		"filter cali-from-groups", "filter cali-to-groups", "filter cali-from-group", "filter cali-to-group",
		"filter cali-fh", "filter cali-th", "filter cali-fhfw", "filter cali-thfw", "filter cali-from-hep-forward", "filter cali-to-hep-forward",
		"nat cali-POSTROUTING", "nat cali-nat-outgoing",
		"filter cali-pi", "filter cali-po", "filter cali-pri", "filter cali-pro",
		"set cali40s", "set cali60s", "set cali40n", "set cali60n", "set cali40x", "set cali60x", "set cali40p", "set cali60p",
		"set cali40svc", "set cali60svc", "set cali40svcnoport", "set cali60svcnoport",
		"-j accept", "-j drop", "-j reject", "-j return", "-j jump", "-j goto", "-j mark", "-j report", "-j log", "-j notrack", "-j masquerade",
	} {
		if !have[want] {
			t.Errorf("no case has %q", want)
		}
	}
}

// stem gives a chain's name without what it is about.
func stem(key chain.Key) string {
	for _, s := range []string{"fhfw", "thfw", "fh", "th", "fw", "tw", "from-group", "to-group", "pri", "pro", "pi", "po"} {
		if strings.HasPrefix(key.Name, "cali-"+s+"-") {
			return "cali-" + s
		}
	}
	return key.Name
}

func verb(a chain.Action) string {
	return map[chain.Verb]string{
		chain.Accept: "accept", chain.Drop: "drop", chain.Reject: "reject", chain.Return: "return", chain.Jump: "jump",
		chain.Goto: "goto", chain.SetMark: "mark", chain.Report: "report", chain.KernelLog: "log", chain.NoTrack: "notrack",
		chain.Masquerade: "masquerade",
	}[a.Verb]
}
