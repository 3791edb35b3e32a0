// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// damage is what another program does to our part of the packet filter.
type damage struct {
	name string
	// script is a shell's, with IPT for iptables, IPTABLES for the names of both families', POLICY and SET for the policy's
	// chain and its set, and STRANGER for an address. number CHAIN WORD gives the number of the first rule with a word, and
	// move CHAIN WORD... moves those to the end, at once.
	script string
	// closes says that new connections that are allowed may be lost too.
	closes bool
	// adds says that there is more of others' afterwards, and theirs that nothing of ours changes by it.
	adds, theirs bool
	// uncounted says that what undoes it is not among the changes that the agent counts.
	uncounted bool
}

// shellWords are number, move, which is one transaction because kube-proxy and the agent put back what is away, and saved PROGRAM.
// The first line of a chain's list is no rule. Programs of the legacy backend that only read take no lock, and may see no
// counters while another one writes.
const shellWords = `saved() { flock /run/xtables.lock $1-save -c; }
number() { echo $(($(IPT -S $1 | grep -n -- "^-A.*$2" | head -n 1 | cut -d: -f1) - 1)); }
move() { chain=$1; shift; text=$(for word; do rule=$(IPT -S $chain | grep -- "^-A.*$word" | head -n 1); echo "-D ${rule#-A }"; echo "$rule"; done); printf '*filter\n%s\nCOMMIT\n' "$text" | IPT-restore -w -n; }
`

// chainDamages are noticed by events, or when the chains are read again.
func chainDamages() []damage {
	return []damage{
		{name: "our chains and rules deleted", script: `for i in IPTABLES; do saved $i | grep -v cali | $i-restore -w -c; done`},
		{name: "table flushed, others' rules come back", script: `for i in IPTABLES; do saved $i | grep -v cali >/run/theirs-$i; $i -w -F; $i-restore -w -c </run/theirs-$i; done`},
		{name: "jump deleted", script: `IPT -w -D FORWARD $(number FORWARD cali-FORWARD)`},
		{name: "other jump deleted", script: `IPT -w -D FORWARD $(number FORWARD cali-tracked)`},
		{name: "jump moved behind others' rules", script: `move FORWARD cali-FORWARD`},
		{name: "our first rules in the other order", script: `move FORWARD cali-FORWARD cali-tracked KUBE-SERVICES KUBE-FORWARD`},
		{name: "rule put before the jump", script: `IPT -w -D FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD; IPT -w -I FORWARD 1 -m comment --comment "kubernetes forwarding rules" -j ACCEPT`, adds: true},
		{name: "that rule replaced", script: `IPT -w -D FORWARD -m comment --comment "kubernetes forwarding rules" -j ACCEPT; IPT -w -A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD`, theirs: true},
		{name: "first chain flushed", script: `IPT -w -F cali-FORWARD`},
		{name: "dispatch flushed", script: `IPT -w -F cali-to-wl-dispatch`, closes: true},
		{name: "dispatch in another order", script: `move cali-to-wl-dispatch MARK cali-to-group-none`, closes: true},
		{name: "dispatch chain gone", script: `saved IPT | grep -v cali-to-wl-dispatch | IPT-restore -w -c`, closes: true},
		{name: "policy flushed", script: `IPT -w -F POLICY`, closes: true},
		{name: "policy in another order", script: `move POLICY udp`, closes: true},
		{name: "policy renamed", script: `IPT -w -E POLICY cali-pi-np/default/other; IPT -w -I cali-pi-np/default/other -j MARK --set-xmark 0x10000/0x10000 || true`},
		{name: "policy renamed to what is nobody's", script: `IPT -w -E POLICY NOBODYS; IPT -w -F NOBODYS || true`, closes: true, adds: true},
		{name: "that chain deleted", script: `IPT -w -X NOBODYS`, theirs: true},
		{name: "first chain renamed", script: `IPT -w -E cali-FORWARD cali-other`},
		{name: "rule put into the policy", script: `IPT -w -I POLICY 1 -j MARK --set-xmark 0x10000/0x10000`},
		{name: "rule of the policy deleted", script: `IPT -w -D POLICY 1`, closes: true},
		{name: "raw table flushed", script: `for i in IPTABLES; do $i -w -t raw -F; $i -w -t raw -X || true; done`},
	}
}

// setDamages are noticed when the sets are read again: the kernel tells nobody of them.
func setDamages() []damage {
	return []damage{
		{name: "member put in", script: `ipset add SET STRANGER`},
		{name: "members deleted", script: `ipset flush SET`, closes: true},
		{name: "set swapped for another one", script: `ipset create other hash:net; ipset add other 0.0.0.0/1; ipset add other 128.0.0.0/1; ipset swap other SET; ipset destroy other`},
		{name: "sets of ours that nobody needs", script: `ipset create cali40s:nobodys hash:net; ipset create cali4t9 hash:ip`, uncounted: true},
	}
}

// TestFilterDriftIsRepaired changes what is ours in the packet filter behind the agent's back while packets flow, and
// holds that all comes back, and that what others have beside it stays as it is.
func TestFilterDriftIsRepaired(t *testing.T) {
	eachBackend(t, func(p *policed) {
		kube := p.plantKube()
		var ours, theirs string
		p.until("our last rules stand behind others'", func(ctx context.Context) error {
			var err error
			ours, theirs, err = p.filter(ctx, p.h, p.backend)
			if err == nil && strings.Count(ours, `accepted by policy" -j ACCEPT (others before: true, behind: false)`) != 2 {
				err = errors.New(ours)
			}
			return err
		})
		names := p.names(ours)
		p.holds("before")
		for _, d := range append(chainDamages(), setDamages()...) {
			before, begun, changes := p.now(), time.Now(), p.metric(p.h, "korat_step_changes_total")
			p.shell(names.Replace(shellWords + d.script))
			p.until(d.name+": repaired", func(ctx context.Context) error {
				own, foreign, err := p.filter(ctx, p.h, p.backend)
				if err == nil && own != ours {
					err = fmt.Errorf("ours: want (-), have (+):\n%s", cmp.Diff(strings.Split(ours, "\n"), strings.Split(own, "\n")))
				}
				if err == nil && foreign != theirs && !d.adds {
					err = fmt.Errorf("others': want (-), have (+):\n%s", cmp.Diff(strings.Split(theirs, "\n"), strings.Split(foreign, "\n")))
				}
				return err
			})
			since := p.now()
			p.until(d.name+": in force", func(context.Context) error {
				if !d.theirs && !d.uncounted && p.metric(p.h, "korat_step_changes_total") == changes {
					return errors.New("nothing was repaired")
				}
				return p.inForce(since)
			})
			p.Logf("%s: repaired by %s; %s", d.name, time.Since(begun).Round(time.Millisecond), window(p.forbidden.passed(before.forbidden)))
			if d.closes {
				before.allowed = p.allowed.next()
			}
			p.lostNone(d.name, before)
			p.holds(d.name)
		}
		if !kube.Running() {
			log, _ := kube.Log()
			p.Errorf("kube-proxy's loop has ended: %s", log)
		}
	})
}

// window says when what is forbidden passed.
func window(passed []time.Time) string {
	if len(passed) == 0 {
		return "never open"
	}
	return fmt.Sprintf("open for %s, %d packets", passed[len(passed)-1].Sub(passed[0]).Round(time.Millisecond), len(passed))
}

// names gives what damage is done to.
func (p *policed) names(ours string) *strings.Replacer {
	p.Helper()
	policy, set := "cali-pi-np/default/server", ""
	for line := range strings.Lines(ours) {
		if rest, ok := strings.CutPrefix(line, "create cali40s:"); ok {
			set = "cali40s:" + strings.Fields(rest)[0]
		}
	}
	if set == "" || !strings.Contains(ours, "-A "+policy+" ") {
		p.Fatalf("neither chain nor set of the policy in\n%s", ours)
	}
	all := programs(p.backend, "")
	return strings.NewReplacer("IPTABLES", strings.Join(all, " "), "IPT", all[0], "POLICY", policy, "SET", set, "STRANGER", p.stranger.Address().String())
}

// shell runs a shell's script.
func (p *policed) shell(script string) {
	p.Helper()
	if r := p.try(p.h, "", "sh", "-ec", script); r.status != 0 {
		p.Fatalf("%s: status %d: %s", script, r.status, r.stderr)
	}
}
