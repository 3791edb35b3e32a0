// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"korat/api"
	"korat/felix/dataplane"
	"korat/policy/chain"
)

// scrape gives the metrics.
func (n *node) scrape() string {
	n.w.t.Helper()
	answer := httptest.NewRecorder()
	n.Handler().ServeHTTP(answer, httptest.NewRequestWithContext(n.w.t.Context(), http.MethodGet, "/metrics", nil))
	return answer.Body.String()
}

// The status and the metrics count what there is of policies, and name what is refused.
func TestPolicyStatus(t *testing.T) {
	w := newWorld(t)
	w.plant(webPolicy)
	n := w.start()
	n.untilReady()
	web, client := n.attachAs("web", "web"), n.attachAs("client", "client")
	w.conntrack.open(client.Addresses[0], web.Addresses[0], 443)
	refused := chain.Key{Family: api.IPv4, Table: chain.Filter, Name: "cali-pi-np/ns/web"}
	w.until("one policy is active", func() bool { return n.status().Policies.Active == 1 })
	have := *n.status().Policies
	if have.Chains != len(w.chains.Have) || have.Rules < have.Chains || have.Sets != 1 || have.Members != 1 || have.Refused != nil {
		t.Errorf("status %+v of %d chains", have, len(w.chains.Have))
	}
	text := n.scrape()
	for _, want := range []string{
		"korat_active_policies 1", fmt.Sprintf("korat_chains %d", have.Chains), fmt.Sprintf("korat_rules %d", have.Rules), "korat_sets 1",
		"korat_set_members 1", "korat_policy_faults 0", "korat_refused_chains 0", "korat_flows_cut_total 0",
	} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("the metrics lack %q", want)
		}
	}

	w.chains.Bad = map[chain.Key]error{refused: errors.New("the kernel refuses rule 1")}
	w.plant(strings.ReplaceAll(webPolicy, "name: web,", "name: other,"))
	policies, _, err := w.store.List(t.Context(), api.KindNetworkPolicy)
	if err != nil {
		t.Fatal(err)
	}
	for _, obj := range policies {
		if p, ok := obj.(*api.NetworkPolicy); ok && p.Name == "web" {
			p.Spec.Ingress[0].Destination.Ports = []api.Port{{First: 81, Last: 81}}
			if _, err := w.store.Update(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.until("the refused chain is named", func() bool {
		s := n.status().Policies
		return s.Active == 2 && len(s.Refused) == 1 && s.Refused[0].Chain == "IPv4 filter cali-pi-np/ns/web" && strings.Contains(s.Refused[0].Reason, "refuses rule 1")
	})
	w.until("the flow that is forbidden by now is counted", func() bool {
		return n.status().Policies.Cut == 1 || strings.Contains(n.scrape(), "korat_flows_cut_total 1\n")
	})
	if !strings.Contains(n.scrape(), "korat_refused_chains 1\n") {
		t.Error("the metrics do not count it")
	}
}

// Where kube-proxy works with IPVS connections to services get past policies: the status says so for as long as that is so.
func TestIPVSIsToldOf(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	n.untilReady()
	told := func() bool {
		return strings.Contains(strings.Join(n.status().Problems, "\n"), "policy: the interface kube-ipvs0 is there")
	}
	if told() {
		t.Errorf("have %q", n.status().Problems)
	}
	w.kernel.addLink("kube-ipvs0", dataplane.HostLink{Index: 300, Type: "dummy"})
	w.until("the status tells", told)
	if len(n.report.notReady()) > 0 {
		t.Errorf("not ready: %q", n.report.notReady())
	}
	w.kernel.removeLink("kube-ipvs0")
	w.until("the status tells no more", func() bool { return !told() })
}
