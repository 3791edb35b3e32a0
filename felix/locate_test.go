// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"korat/api"
	"korat/cni-plugin/socket"
	"korat/felix/kernel"
	"korat/policy"
	"korat/policy/chain"
)

// countedChains are chains whose rules have counted: each as many packets as its number, from 1.
type countedChains struct {
	*fakeChains
	// stale says that the kernel has others than are wanted, and failing that it does not say.
	stale   bool
	failing error
}

// Counter implements counter.
func (c *countedChains) Counter() func(context.Context, chain.Key) ([]kernel.RuleCounter, error) {
	return func(ctx context.Context, key chain.Key) ([]kernel.RuleCounter, error) {
		if c.failing != nil {
			return nil, c.failing
		}
		all, err := c.Read(ctx)
		have := all[key]
		if err != nil || have == nil || c.stale {
			return nil, err
		}
		var counters []kernel.RuleCounter
		for i, r := range have.Rules {
			counters = append(counters, kernel.RuleCounter{ID: r.ID, Packets: uint64(i + 1), Bytes: uint64(100 * (i + 1))})
		}
		return counters, nil
	}
}

// located asks, and gives what is answered, a line for each check.
func (n *node) located(checks ...Check) string {
	n.w.t.Helper()
	text, err := json.Marshal(Question{checks})
	if err != nil {
		n.w.t.Fatal(err)
	}
	reply := n.Handle(n.w.t.Context(), socket.Request{Verb: socket.VerbLocate, Query: socket.Query{Question: text}})
	if reply.Error != nil {
		return reply.Error.Error()
	}
	var l Located
	if err := json.Unmarshal(reply.Status, &l); err != nil || l.Node != "a" {
		n.w.t.Fatal(l.Node, err)
	}
	var b strings.Builder
	for _, r := range l.Rules {
		fmt.Fprintf(&b, "%s %s %d: %d %d\n", r.Table, r.Chain, r.Number, r.Packets, r.Bytes)
	}
	return b.String()
}

// TestLocate asks where in the kernel rules are that decide.
func TestLocate(t *testing.T) {
	w := newWorld(t)
	table := &countedChains{fakeChains: w.chains}
	w.chainTable = table
	w.plant(webPolicy + "  - {action: Deny, protocol: UDP}\n")
	n := w.start()
	n.untilReady()
	n.attachAs("web", "web")
	web := Check{Endpoint: "ns/web", Node: "a", Direction: api.Ingress, Family: api.IPv4}
	by := func(part int) Check {
		c := web
		c.Policy, c.Part = &policy.ID{Kind: policy.KindNetworkPolicy, Namespace: "ns", Name: "web"}, part
		return c
	}
	end, out, other, elsewhere, alone := web, web, by(0), by(0), web
	end.Tier = policy.TierDefault
	out.Direction, out.Policy = api.Egress, &policy.ID{Kind: policy.KindProfile, Name: "kns.ns"}
	other.Endpoint, elsewhere.Node = "ns/other", "b"
	const nothing = "  0: 0 0\n"

	shared := strings.Fields(n.located(alone))
	if len(shared) != 5 || !strings.HasPrefix(shared[1], "cali-tw-") || shared[2] != "0:" {
		t.Fatalf("the chain alone: %v", shared)
	}
	// Of a rule that denies the report is the first, and what drops has counted the same packets.
	have := n.located(by(0), by(1), by(2), end, other, elsewhere)
	want := "filter cali-pi-np/ns/web 1: 1 100\n" + "filter cali-pi-np/ns/web 2: 3 300\n" + nothing
	if !strings.HasPrefix(have, want) || !strings.HasSuffix(have, nothing+nothing) {
		t.Errorf("have\n%swant\n%s", have, want)
	}
	if line := strings.Split(have, "\n")[3]; !strings.HasPrefix(line, "filter "+shared[1]+" ") {
		t.Errorf("the end of the tier: %s", line)
	}
	if have := n.located(out); !strings.HasPrefix(have, "filter cali-fw-") {
		t.Errorf("the profile: %s", have)
	}
	// By the datastore it is the same, without what was counted.
	w.until("the pod is in the datastore", func() bool {
		for range n.Datastore.Snapshot().WorkloadEndpoints.All() {
			return true
		}
		return false
	})
	checks := []Check{by(0), by(1), by(2), end, other, alone, out}
	for i, r := range Expect(n.Datastore.Snapshot(), Question{checks}) {
		have := fmt.Sprintf("%s %s %d:", r.Table, r.Chain, r.Number)
		if want, _, _ := strings.Cut(n.located(checks[i]), ":"); have != want+":" {
			t.Errorf("by the datastore: have %q, want %q", have, want)
		}
	}
	if have := Expect(n.Datastore.Snapshot(), Question{[]Check{elsewhere}}); have[0] != (LocatedRule{}) {
		t.Errorf("of a pod that is not there: %+v", have)
	}
	if have := n.located(); have != "" {
		t.Errorf("nothing was asked: %q", have)
	}

	table.stale = true
	if have := n.located(by(0)); !strings.Contains(have, "chain cali-pi-np/ns/web is not in the kernel as it is wanted: see koratctl node status") {
		t.Error(have)
	}
	table.failing = errors.New("iptables is not there")
	if have := n.located(by(0)); !strings.Contains(have, "iptables is not there") {
		t.Error(have)
	}
	reply := n.Handle(t.Context(), socket.Request{Verb: socket.VerbLocate, Query: socket.Query{Question: json.RawMessage(`[]`)}})
	if reply.Error == nil || reply.Error.Code != socket.CodeDecodingFailure || !strings.Contains(reply.Error.Error(), "are koratctl and the agent of one version?") {
		t.Errorf("%+v", reply.Error)
	}
}

// closedHost makes a node drop what its own pods send to it, and what is for services that nobody knows.
const closedHost = `apiVersion: projectcalico.org/v3
kind: FelixConfiguration
metadata: {name: default}
spec: {defaultEndpointToHostAction: Drop, serviceCIDRs: [198.51.100.0/24]}
`

// TestLocateWhatNoPolicyAllows asks where packets are dropped whatever policies say, with a policy that is staged besides.
func TestLocateWhatNoPolicyAllows(t *testing.T) {
	w := newWorld(t)
	w.chainTable = &countedChains{fakeChains: w.chains}
	w.plant(closedHost)
	w.plant(strings.NewReplacer("kind: NetworkPolicy", "kind: StagedNetworkPolicy").Replace(webPolicy) + "  - {action: Deny, protocol: UDP}\n")
	n := w.start()
	n.untilReady()
	n.attachAs("web", "web")
	web := Check{Endpoint: "ns/web", Node: "a", Direction: api.Egress, Family: api.IPv4}
	by := func(endpoint, reason string, d api.PolicyType) Check {
		c := web
		c.Endpoint, c.Reason, c.Direction = endpoint, reason, d
		return c
	}
	staged, elsewhere := web, by("node b", "host", api.Ingress)
	staged.Direction, staged.Policy, staged.Part = api.Ingress, &policy.ID{Kind: policy.KindStagedNetworkPolicy, Namespace: "ns", Name: "web"}, 1
	elsewhere.Node = "b"
	name := strings.Fields(n.located(web))[1]
	have := n.located(
		by("ns/web", "source", api.Egress), by("ns/web", "vxlan", api.Egress), by("ns/web", "ipip", api.Egress), by("node a", "service", api.Egress),
		by("node a", "host", api.Ingress), staged, by("ns/other", "vxlan", api.Egress), by("node a", "the weather", api.Egress), elsewhere,
	)
	const nothing = "  0: 0 0\n"
	want := "raw cali-PREROUTING 1: 1 100\n" + "filter " + name + " 1: 1 100\n" + "filter " + name + " 2: 2 200\n" +
		"filter cali-cidr-block 1: 1 100\n" + "filter cali-wl-to-host 5: 6 600\n" + "filter cali-pi-snp/ns/web 3: 4 400\n" + nothing + nothing + nothing
	if have != want {
		t.Errorf("have\n%swant\n%s", have, want)
	}
}

// TestInquiryOfNobody asks an agent that has ended.
func TestInquiryOfNobody(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	n.untilReady()
	n.stop()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := inquire(ctx, n.Agent, func() int { return 1 }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestQuestionOfAnotherVersion: what is not understood whole is not answered.
func TestQuestionOfAnotherVersion(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	for question, want := range map[string]string{
		`{"checks": []}`:                "",
		`{"checks": [{"later": true}]}`: "question not understood: are koratctl and the agent of one version?",
	} {
		have := ""
		if r := n.locate(t.Context(), json.RawMessage(question)); r.Error != nil {
			have = r.Error.Message
		}
		if have != want {
			t.Errorf("%s: have %q, want %q", question, have, want)
		}
	}
}

// TestReportedRules says what the IDs in the chains' rules stand for, for as long as they are there.
func TestReportedRules(t *testing.T) {
	w := newWorld(t)
	w.plant(webPolicy + "  - {action: Deny, protocol: UDP}\n")
	w.plant(closedHost)
	n := w.start()
	n.untilReady()
	n.attachAs("web", "web")
	ids := map[string]string{}
	chains, err := w.chains.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range chains {
		for _, r := range c.Rules {
			if r.Action.Verb == chain.Report {
				_, id, _ := strings.Cut(r.Action.Text, "|")
				d, known := lookout{n.Agent}.Decided(t.Context(), id)
				if !known {
					t.Errorf("nobody knows %s", r.Action.Text)
				}
				if d.Policy != nil {
					d.Why = fmt.Sprintf("%s %d %s", d.Policy, *d.Rule, d.Action)
				}
				ids[fmt.Sprintf("%s %s", d.Direction, d.Why)] = id
			}
		}
	}
	for _, want := range []string{
		"Ingress np/ns/web 1 Deny", "Ingress no rule of tier default matches",
		"Ingress no pod is known at the interface", "Egress no pod is known at the interface",
		"Egress a spoofed source: it is not an address of the pod's", "Egress it is VXLAN, which pods may not send",
		"Egress it is IPv4 in IP, which pods may not send", " the flow was cut by a policy change",
		"Egress FelixConfiguration's serviceCIDRs have the address, and no service is known there",
		"Ingress FelixConfiguration's defaultEndpointToHostAction is Drop",
	} {
		if ids[want] == "" {
			t.Errorf("no rule reports: %s\nhave %v", want, ids)
		}
	}
	before := lookout{n.Agent}.Edition()
	if err := w.store.Delete(t.Context(), api.Key{Kind: api.KindNetworkPolicy, Namespace: "ns", Name: "web"}, ""); err != nil {
		t.Fatal(err)
	}
	w.until("the rule is gone", func() bool {
		_, known := lookout{n.Agent}.Decided(t.Context(), ids["Ingress np/ns/web 1 Deny"])
		return !known
	})
	if after := (lookout{n.Agent}).Edition(); after == before {
		t.Error("it is the same edition")
	}
	if err := n.Stream(t.Context(), socket.Request{Verb: socket.VerbFlows}, nil); err == nil || !strings.Contains(err.Error(), "this agent has no packet log") {
		t.Error(err)
	}
}
