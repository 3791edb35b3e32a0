// SPDX-License-Identifier: Apache-2.0

package index_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"korat/policy"
	"korat/policy/index"
	"korat/policy/selector"
)

// naive is what Matcher and Sets are held against: it keeps what it was given, and works out everything anew.
type naive struct {
	items   map[string]policy.Item
	parents map[string]map[string]string
	queries map[string]index.Query
}

func newNaive() naive {
	return naive{map[string]policy.Item{}, map[string]map[string]string{}, map[string]index.Query{}}
}

func (n naive) labels(it policy.Item) map[string]string {
	all := map[string]string{}
	for _, parent := range slices.Backward(it.Parents) {
		maps.Copy(all, n.parents[parent])
	}
	maps.Copy(all, it.Labels)
	return all
}

// matches are "query item", in order.
func (n naive) matches() []string {
	var all []string
	for itemID, it := range n.items {
		labels := n.labels(it)
		for queryID, q := range n.queries {
			if q.Selector.Matches(labels) {
				all = append(all, queryID+" "+itemID)
			}
		}
	}
	slices.Sort(all)
	return all
}

// members are those of each set, in order.
func (n naive) members() map[string][]policy.Member {
	all := map[string][]policy.Member{}
	for id, q := range n.queries {
		found := map[policy.Member]bool{}
		for _, it := range n.items {
			if q.Selector.Matches(n.labels(it)) {
				add(found, it, q)
			}
		}
		all[id] = slices.SortedFunc(maps.Keys(found), policy.Member.Compare)
	}
	return all
}

func add(found map[policy.Member]bool, it policy.Item, q index.Query) {
	for _, prefix := range it.Prefixes {
		if q.Port == "" {
			found[policy.Member{Prefix: prefix}] = true
			continue
		}
		for _, port := range it.Ports {
			if port.Name == q.Port && (q.Protocol == 0 || q.Protocol == port.Protocol) && prefix.IsSingleIP() {
				found[policy.Member{Prefix: prefix, Protocol: port.Protocol, Port: port.Port}] = true
			}
		}
	}
}

// changes is what differs between two looks, as text.
func changes(before, after map[string][]policy.Member) string {
	all := map[string]index.Delta{}
	for id, members := range after {
		old, was := before[id]
		if !was {
			all[id] = index.Delta{New: true}
			continue
		}
		if d := (index.Delta{Added: minus(members, old), Removed: minus(old, members)}); len(d.Added)+len(d.Removed) > 0 {
			all[id] = d
		}
	}
	for id := range before {
		if _, stays := after[id]; !stays {
			all[id] = index.Delta{Gone: true}
		}
	}
	return deltaText(all)
}

func minus(a, b []policy.Member) []policy.Member {
	return slices.DeleteFunc(slices.Clone(a), func(m policy.Member) bool { return slices.Contains(b, m) })
}

// deltaText writes a line for each set: "web +10.0.0.1/32 -10.0.0.2/32", "db new" or "dns gone".
func deltaText(all map[string]index.Delta) string {
	var text strings.Builder
	for _, id := range slices.Sorted(maps.Keys(all)) {
		d := all[id]
		text.WriteString(id)
		if d.New {
			text.WriteString(" new")
		}
		if d.Gone {
			text.WriteString(" gone")
		}
		for _, m := range d.Added {
			fmt.Fprint(&text, " +", m)
		}
		for _, m := range d.Removed {
			fmt.Fprint(&text, " -", m)
		}
		text.WriteString("\n")
	}
	return text.String()
}

// A chooser makes things at random, out of a world so small that they often coincide.
type chooser struct {
	*rand.Rand
	items, parents, queries int
}

func (c chooser) pick(from string) string {
	all := strings.Fields(from)
	return all[c.IntN(len(all))]
}

func (c chooser) itemID() string  { return fmt.Sprintf("i%d", c.IntN(c.items)) }
func (c chooser) parent() string  { return fmt.Sprintf("p%d", c.IntN(c.parents)) }
func (c chooser) queryID() string { return fmt.Sprintf("q%d", c.IntN(c.queries)) }
func (c chooser) key() string     { return c.pick("a b c d projectcalico.org/namespace") }
func (c chooser) value() string   { return c.pick("x y z xy") }

func (c chooser) labels() map[string]string {
	all := map[string]string{}
	for range c.IntN(4) {
		all[c.key()] = c.value()
	}
	return all
}

func (c chooser) item() policy.Item {
	it := policy.Item{Labels: c.labels()}
	for range c.IntN(4) {
		it.Parents = append(it.Parents, c.parent())
	}
	for range c.IntN(4) {
		prefix := c.pick("10.0.0.1/32 10.0.0.2/32 10.0.0.3/32 10.0.0.4/32 10.0.0.0/24 2001:db8::1/128 2001:db8::/32")
		it.Prefixes = append(it.Prefixes, netip.MustParsePrefix(prefix))
	}
	for range c.IntN(3) {
		port := policy.NamedPort{Name: c.pick("http dns"), Protocol: policy.TCP, Port: uint16(80 + c.IntN(2))}
		if c.IntN(3) == 0 {
			port.Protocol = policy.UDP
		}
		it.Ports = append(it.Ports, port)
	}
	return it
}

func (c chooser) query(t *testing.T) index.Query {
	q := index.Query{Selector: parse(t, c.expression(c.IntN(4)))}
	if c.IntN(3) == 0 {
		q.Port, q.Protocol = c.pick("http dns"), []policy.Protocol{0, policy.TCP, policy.UDP}[c.IntN(3)]
	}
	return q
}

func (c chooser) expression(depth int) string {
	if depth > 0 {
		return "(" + c.expression(depth-1) + c.pick("&& || &&") + c.expression(c.IntN(depth)) + ")"
	}
	switch key, value := c.key(), c.value(); c.IntN(10) {
	case 0:
		return c.pick("all() !all() global() !global()")
	case 1:
		return "has(" + key + ")"
	case 2:
		return "!has(" + key + ")"
	case 3:
		return key + " != '" + value + "'"
	case 4:
		return key + " starts with '" + value + "'"
	case 5, 6:
		return key + " in {'" + value + "', '" + c.value() + "'}"
	default:
		return key + " == '" + value + "'"
	}
}

func parse(t *testing.T, text string) selector.Selector {
	t.Helper()
	s, err := selector.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
