// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"fmt"
	"net/netip"
	"runtime/debug"
	"time"

	"korat/policy"
	"korat/policy/index"
	"korat/policy/selector"
)

// Members is the index of who is in which set, with a large cluster in it: pods in namespaces of a hundred, with the
// labels that Kubernetes and people give them, and selectors as people write them. A pod is in some thirty sets.
type Members struct {
	size MembersSize
	sets *index.Sets
}

// MembersSize is how many endpoints and selectors there are.
type MembersSize struct{ Endpoints, Selectors int }

// MembersCost is what changes took: CPU time, and how many members came or went.
type MembersCost struct {
	CPU     time.Duration
	Members int
}

func (s MembersSize) namespaces() int { return s.Endpoints / 100 }

func (s MembersSize) item(i int) policy.Item {
	namespace := fmt.Sprintf("ns%d", i%s.namespaces())
	return policy.Item{
		Labels: map[string]string{
			"projectcalico.org/namespace":      namespace,
			"projectcalico.org/orchestrator":   "k8s",
			"projectcalico.org/serviceaccount": "default",
			"app":                              fmt.Sprintf("a%d", i%500),
			"role":                             fmt.Sprintf("r%d", i%7),
			"tier":                             []string{"front", "middle", "back"}[i%3],
			"pod-template-hash":                fmt.Sprintf("%x", i/10),
		},
		Parents:  []string{"kns." + namespace, "ksa." + namespace + ".default"},
		Prefixes: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)},
		Ports:    []policy.NamedPort{{Name: "http", Protocol: policy.TCP, Port: 8080}},
	}
}

func (s MembersSize) parent(i int) map[string]string {
	return map[string]string{
		"pcns.projectcalico.org/name":      fmt.Sprintf("ns%d", i),
		"pcns.kubernetes.io/metadata.name": fmt.Sprintf("ns%d", i),
		"pcns.team":                        fmt.Sprintf("t%d", i%20),
	}
}

func (s MembersSize) query(i int) (q index.Query, err error) {
	var text string
	switch n, kind := i/100, i%100; {
	case kind < 50:
		text = fmt.Sprintf("projectcalico.org/namespace == 'ns%d' && projectcalico.org/orchestrator == 'k8s' && app == 'a%d'", (n*50+kind)%s.namespaces(), i%500)
	case kind < 70:
		text = fmt.Sprintf("pcns.team == 't%d' && role == 'r%d' && tier != 'x%d'", kind-50, n%7, i)
	case kind < 85:
		text, q.Port = fmt.Sprintf("app == 'a%d' && has(tier) && tier != 'x%d'", i%500, i), "http"
	case kind < 95:
		text = fmt.Sprintf("app in {'a%d', 'a%d'} || pcns.kubernetes.io/metadata.name == 'ns%d'", i%500, (i+1)%500, i%s.namespaces())
	case kind < 98:
		text = fmt.Sprintf("pod-template-hash starts with '%x' && !has(x%d)", n, i)
	default:
		text = fmt.Sprintf("(app == 'a%d' || role == 'r9' || !has(tier)) && role != 'x%d'", i%500, i)
	}
	q.Selector, err = selector.Parse(text)
	return q, err
}

// Fill puts everything in.
func (m *Members) Fill(size MembersSize, _ *Nothing) error {
	m.size, m.sets = size, index.NewSets()
	for i := range size.namespaces() {
		m.sets.SetParent(fmt.Sprintf("kns.ns%d", i), size.parent(i))
	}
	for i := range size.Selectors {
		q, err := size.query(i)
		if err != nil {
			return err
		}
		m.sets.SetQuery(fmt.Sprintf("q%d", i), q)
	}
	for i := range size.Endpoints {
		m.sets.SetItem(fmt.Sprintf("pod-%d", i), size.item(i))
	}
	m.sets.Changes()
	debug.FreeOSMemory() // as an agent does once it is in sync
	return nil
}

// Change makes changes, each followed by a look: every third takes a pod away and makes it anew, gives one other
// labels, and another address.
func (m *Members) Change(count int, cost *MembersCost) error {
	before, err := ownCPU()
	if err != nil {
		return err
	}
	for n := range count {
		i := n * 7919 % m.size.Endpoints
		id, it := fmt.Sprintf("pod-%d", i), m.size.item(i)
		switch n % 3 {
		case 0:
			m.sets.DeleteItem(id)
			cost.Members += m.told()
		case 1:
			it.Labels["app"], it.Labels["role"] = fmt.Sprintf("a%d", (i+7)%500), fmt.Sprintf("r%d", (i+1)%7)
		default:
			it.Prefixes[0] = netip.PrefixFrom(netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}), 32)
		}
		m.sets.SetItem(id, it)
		cost.Members += m.told()
	}
	after, err := ownCPU()
	cost.CPU = after - before
	return err
}

// told is how many members came or went.
func (m *Members) told() (count int) {
	for _, d := range m.sets.Changes() {
		count += len(d.Added) + len(d.Removed)
	}
	return count
}
