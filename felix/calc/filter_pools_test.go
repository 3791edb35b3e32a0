// SPDX-License-Identifier: Apache-2.0

package calc

import (
	"fmt"
	"strings"
	"testing"

	"korat/api"
	"korat/policy/chain"
)

func poolText(name, cidr, more string) string {
	return fmt.Sprintf("---\napiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: %s}\nspec: {cidr: %s%s}\n", name, cidr, more)
}

// Pools are those of the Snapshot, whatever else is told of before or after them.
func TestPools(t *testing.T) {
	w := newTold(t, poolText("one", "10.1.0.0/16", ""))
	want := func(what, rules string) {
		t.Helper()
		var all []string
		if c := w.Update().Chains[chain.Key{Family: api.IPv4, Table: chain.NAT, Name: "cali-nat-outgoing"}]; c != nil {
			for _, r := range c.Rules {
				all = append(all, r.String())
			}
		}
		if have := strings.Join(all, "\n"); have != rules {
			t.Errorf("%s: have %s, want %s", what, have, rules)
		}
	}
	want("no NAT", "")
	w.apply(poolText("one", "10.1.0.0/16", ", natOutgoing: true"))
	const one = "src 10.1.0.0/16; not dst 10.1.0.0/16 → MASQUERADE # natOutgoing"
	want("NAT", one)
	w.apply("---\napiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata: {name: default}\nspec: {iptablesFilterDenyAction: Reject}\n")
	want("other settings", one)
	w.apply(poolText("two", "10.2.0.0/16", ", disabled: true"))
	want("a disabled pool", "src 10.1.0.0/16; not dst 10.1.0.0/16; not dst 10.2.0.0/16 → MASQUERADE # natOutgoing")
	w.remove(api.Key{Kind: api.KindIPPool, Name: "two"})
	want("without it", one)
	w.remove(api.Key{Kind: api.KindIPPool, Name: "one"})
	want("no pool", "")
}
