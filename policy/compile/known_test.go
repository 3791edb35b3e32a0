// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"

	"korat/api"
	"korat/policy"
	"korat/policy/chain"
	"korat/policy/compile"
	"korat/policy/policytest"
	"korat/policy/selector"
)

// mostTried is how many rules of ours a packet of a pod's established connection tries at a hook.
const mostTried = 3

// TestEstablished sends packets of connections that there are from pods, to pods, and from pods to their host, through the
// chains of random worlds: whatever these say, they are accepted after few rules. Those of connections that were revoked,
// and of none, are dropped.
func TestEstablished(t *testing.T) {
	seed := seedOf(t)
	tried := map[string]int{}
	for round := range 400 {
		w := newWalk(seed + uint64(round))
		j := w.judgement(t)
		for range 30 {
			j.known(w, tried)
		}
		if t.Failed() {
			t.Fatalf("COMPILE_SEED=%d", seed+uint64(round))
		}
	}
	t.Logf("rules tried: %v", tried)
	for _, name := range []string{"raw PREROUTING", "mangle PREROUTING", "filter INPUT", "filter FORWARD", "mangle POSTROUTING"} {
		if tried[name] < 2 {
			t.Errorf("%s: at most %d rules are tried: that proves little", name, tried[name])
		}
	}
}

// known sends a packet of a connection that there is, and counts the rules that it tries at each hook, if it is not one that
// is dropped.
func (j *judgement) known(w *walk, tried map[string]int) {
	p := j.ofPod(w)
	p.State = pick(w, "ESTABLISHED", "ESTABLISHED", "RELATED")
	want := accepted
	switch w.IntN(6) {
	case 0:
		p.ConnMark, want = compile.RevokedMark|w.Uint32()&^compile.RevokedMask, dropped
	case 1:
		p.State, want = "INVALID", dropped
	default:
		p.ConnMark = pick[uint32](w, 0, 1, 0x10000, compile.RevokedMark^0x10000, w.Uint32()&^compile.RevokedMask)
	}
	hooks, decides := []hook{{Table: chain.Mangle, Name: "PREROUTING"}, {Table: chain.Filter, Name: "INPUT"}}, 1
	if p.Out != "" {
		hooks[1].Name = "FORWARD"
		hooks = append(hooks, hook{Table: chain.Mangle, Name: "POSTROUTING"})
	}
	// Before connections are tracked policies of host endpoints know none.
	if key := (chain.Key{Family: api.FamilyOf(p.Source), Table: chain.Raw, Name: "cali-from-host-endpoint"}); j.kernel.Chains[key] == nil {
		hooks, decides = append([]hook{{Table: chain.Raw, Name: "PREROUTING"}}, hooks...), decides+1
	}
	for i, h := range hooks {
		j.kernel.Tried, j.kernel.Trail = 0, nil
		have := j.kernel.Through(&p, h)
		if have == dropped && want == dropped {
			return
		}
		if i != decides && have != fell || i == decides && have != want {
			j.Errorf("%s %s: %s: fate %v, want %v in filter:\n%s", h.Table, h.Name, p, have, want, strings.Join(j.kernel.Trail, "\n"))
			return
		}
		name := fmt.Sprint(h.Table, " ", h.Name)
		if want == accepted {
			tried[name] = max(tried[name], j.kernel.Tried)
		}
		if want == accepted && j.kernel.Tried > mostTried {
			j.Errorf("%s: %s: tries %d rules:\n%s", name, p, j.kernel.Tried, strings.Join(j.kernel.Trail, "\n"))
		}
	}
}

// ofPod gives a packet from a pod, to one, or both.
func (j *judgement) ofPod(w *walk) packet {
	v6 := w.IntN(2)
	from, to := j.end(w, v6), j.end(w, v6)
	for from.Interface == "" && (to.Interface == "" || from.Node != "") || from == to {
		from, to = j.end(w, v6), j.end(w, v6)
	}
	p := packet{
		In: from.Interface, Out: to.Interface, Source: from.Address, Destination: to.Address,
		Protocol: pick(w, policy.TCP, policy.UDP, policy.SCTP), SourcePort: j.port(w), DestinationPort: j.port(w),
		Mark: pick[uint32](w, 0, 0x10000, 0x20000, 0x30000),
	}
	if from.Node == "" {
		p.In = pick(w, "eth0", "eth1")
	}
	if to.Node == "" {
		p.Out = pick(w, "eth0", "eth1")
	}
	return p
}

// TestEstablishedOfHosts counts the rules that packets of host endpoints' established connections try before they are
// accepted, and holds that those of revoked ones are dropped. docs/decisions/0015-chains.md says why these are more.
func TestEstablishedOfHosts(t *testing.T) {
	forward, early := policy.Forward, policy.PreDNAT
	for _, c := range []struct {
		name       string
		interfaces string
		stages     []policy.Stage
		want       string
	}{
		{"one interface", "eth0", nil, "INPUT 5 OUTPUT 4"},
		{"one interface and early policies", "eth0", []policy.Stage{early}, "INPUT 6 OUTPUT 4"},
		{"the second of two", "eth eth0", nil, "INPUT 6 OUTPUT 5"},
		{"all interfaces", "*", nil, "INPUT 7 OUTPUT 6"},
		{"one that forwards", "eth0", []policy.Stage{forward}, "INPUT 5 OUTPUT 4 FORWARD 10"},
		{"all that forward", "*", []policy.Stage{forward}, "INPUT 7 OUTPUT 6 FORWARD 12"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := hostMachine(t, strings.Fields(c.interfaces), c.stages)
			p := packet{Source: netip.MustParseAddr("192.0.2.1"), Destination: netip.MustParseAddr("192.0.2.2"), Protocol: policy.TCP}
			p.State = "ESTABLISHED"
			var have []string
			for _, way := range []struct{ hook, in, out string }{{"INPUT", "eth0", ""}, {"OUTPUT", "", "eth0"}, {"FORWARD", "eth0", "eth1"}} {
				p.In, p.Out = way.in, way.out
				h := hook{Table: chain.Filter, Name: way.hook}
				m.Tried = 0
				if m.Through(&p, h) != accepted {
					continue // which is for those alone that forward
				}
				have = append(have, fmt.Sprint(way.hook, " ", m.Tried))
				revoked := p
				if revoked.ConnMark = compile.RevokedMark; m.Through(&revoked, h) != dropped {
					t.Errorf("%s: a packet of a revoked connection is not dropped", way.hook)
				}
			}
			if have := strings.Join(have, " "); have != c.want {
				t.Errorf("have %s, want %s", have, c.want)
			}
		})
	}
}

// hostMachine has host endpoints, with a policy of each stage that allows nothing.
func hostMachine(t *testing.T, interfaces []string, stages []policy.Stage) *policytest.Machine {
	c := compile.New(compile.Options{Families: []api.Family{api.IPv4}})
	for _, name := range interfaces {
		c.SetLocal(name, compile.Local{Interface: name, Host: true})
	}
	for i, stage := range stages {
		c.SetPolicy(&policy.Policy{
			ID: policy.ID{Kind: policy.KindGlobal, Name: fmt.Sprint(i)}, Tier: policy.TierDefault, Order: math.Inf(1), Stage: stage,
			Selector: must(selector.Parse("all()")), AppliesIngress: true, AppliesEgress: stage != policy.PreDNAT,
			Ingress: []policy.Rule{{Action: api.Deny}},
		})
	}
	c.Update()
	return policytest.NewMachine(t, c)
}
