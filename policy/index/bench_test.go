// SPDX-License-Identifier: Apache-2.0

package index_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"korat/policy"
	"korat/policy/index"
	"korat/policy/selector"
)

// The world that is measured: pods as Kubernetes labels them, in namespaces of 100 with five services each, and
// selectors as people write them. A pod is in some 30 sets.
const (
	benchItems      = 100_000
	benchQueries    = 10_000
	benchNamespaces = benchItems / 100
)

func benchItem(i int) policy.Item {
	namespace := fmt.Sprintf("ns%d", i%benchNamespaces)
	v6 := netip.MustParseAddr("2001:db8::").As16()
	v6[13], v6[14], v6[15] = byte(i>>16), byte(i>>8), byte(i)
	return policy.Item{
		Labels: map[string]string{
			"projectcalico.org/namespace":      namespace,
			"projectcalico.org/orchestrator":   "k8s",
			"projectcalico.org/serviceaccount": "default",
			"app":                              fmt.Sprintf("a%d", i%500),
			"role":                             fmt.Sprintf("r%d", i%7),
			"tier":                             []string{"front", "middle", "back"}[i%3],
			"pod-template-hash":                fmt.Sprintf("%x", i/10),
			"statefulset.kubernetes.io/pod":    fmt.Sprintf("pod-%d", i),
		},
		Parents: []string{"kns." + namespace, "ksa." + namespace + ".default"},
		Prefixes: []netip.Prefix{
			netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32),
			netip.PrefixFrom(netip.AddrFrom16(v6), 128),
		},
		Ports: []policy.NamedPort{{Name: "http", Protocol: policy.TCP, Port: 8080}, {Name: "dns", Protocol: policy.UDP, Port: 53}},
	}
}

func benchParent(i int) map[string]string {
	return map[string]string{
		"pcns.projectcalico.org/name":      fmt.Sprintf("ns%d", i),
		"pcns.kubernetes.io/metadata.name": fmt.Sprintf("ns%d", i),
		"pcns.team":                        fmt.Sprintf("t%d", i%20),
		"pcns.stage":                       []string{"test", "production"}[i%2],
	}
}

func benchQuery(b *testing.B, i int) index.Query {
	text, port := "", ""
	switch n, kind := i/100, i%100; {
	case kind < 50: // NetworkPolicies of Kubernetes
		text = fmt.Sprintf("projectcalico.org/namespace == 'ns%d' && projectcalico.org/orchestrator == 'k8s' && app == 'a%d'", (n*50+kind)%benchNamespaces, i%500)
	case kind < 70: // pods of other namespaces
		text = fmt.Sprintf("pcns.team == 't%d' && role == 'r%d' && tier != 'x%d'", kind-50, n%7, i)
	case kind < 85:
		text, port = fmt.Sprintf("app == 'a%d' && has(tier) && tier != 'x%d'", i%500, i), "http"
	case kind < 95:
		text = fmt.Sprintf("app in {'a%d', 'a%d'} || pcns.kubernetes.io/metadata.name == 'ns%d'", i%500, (i+1)%500, i%benchNamespaces)
	case kind < 98: // tried with each pod
		text = fmt.Sprintf("pod-template-hash starts with '%x' && !has(x%d)", n, i)
	default: // nothing to find them by
		text = fmt.Sprintf("(app == 'a%d' || role == 'r9' || !has(tier)) && role != 'x%d'", i%500, i)
	}
	s, err := selector.Parse(text)
	if err != nil {
		b.Fatal(err)
	}
	return index.Query{Selector: s, Port: port}
}

func benchSets(b *testing.B) *index.Sets {
	sets := index.NewSets()
	for i := range benchNamespaces {
		sets.SetParent(fmt.Sprintf("kns.ns%d", i), benchParent(i))
	}
	for i := range benchQueries {
		sets.SetQuery(fmt.Sprintf("q%d", i), benchQuery(b, i))
	}
	for i := range benchItems {
		sets.SetItem(fmt.Sprintf("pod-%d", i), benchItem(i))
	}
	sets.Changes()
	return sets
}

// told is how many members came or went.
func told(all map[string]index.Delta) int {
	count := 0
	for _, d := range all {
		count += len(d.Added) + len(d.Removed)
	}
	return count
}

// BenchmarkItemChange takes a pod away, makes it anew, moves it to another application, and gives it another address, each
// followed by a look.
func BenchmarkItemChange(b *testing.B) {
	sets := benchSets(b)
	changes := []struct {
		name   string
		change func(i int)
	}{
		{"go and come", func(i int) {
			sets.DeleteItem(fmt.Sprintf("pod-%d", i))
			sets.Changes()
			sets.SetItem(fmt.Sprintf("pod-%d", i), benchItem(i))
		}},
		{"labels", func(i int) {
			it := benchItem(i)
			it.Labels["app"], it.Labels["role"] = fmt.Sprintf("a%d", (i+7)%500), fmt.Sprintf("r%d", (i+1)%7)
			sets.SetItem(fmt.Sprintf("pod-%d", i), it)
		}},
		{"address", func(i int) {
			it := benchItem(i)
			it.Prefixes[0] = netip.PrefixFrom(netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}), 32)
			sets.SetItem(fmt.Sprintf("pod-%d", i), it)
		}},
	}
	for _, c := range changes {
		b.Run(c.name, func(b *testing.B) {
			count, i := 0, 0
			for b.Loop() {
				c.change(i * 7919 % benchItems)
				count += told(sets.Changes())
				i++
			}
			b.ReportMetric(float64(count)/float64(i), "members/op")
		})
	}
	b.Run("memory", func(b *testing.B) {
		for b.Loop() {
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.HeapAlloc)/1e6, "live-MB")
		b.ReportMetric(float64(m.Sys-m.HeapReleased)/1e6, "resident-MB")
		runtime.KeepAlive(sets)
	})
}

// BenchmarkQueryAdd adds a set to those that are there, counts it and takes it away.
func BenchmarkQueryAdd(b *testing.B) {
	sets := benchSets(b)
	for _, kind := range []struct {
		name string
		at   int
	}{{"namespace and app", 0}, {"team and role", 50}, {"port", 70}, {"either", 85}, {"starts with", 95}, {"nothing to find by", 98}} {
		b.Run(kind.name, func(b *testing.B) {
			count, i := 0, 0
			for b.Loop() {
				sets.SetQuery("new", benchQuery(b, i*100+kind.at))
				sets.Changes()
				count += sets.Len("new")
				sets.DeleteQuery("new")
				sets.Changes()
				i++
			}
			b.ReportMetric(float64(count)/float64(i), "members/op")
		})
	}
}

// BenchmarkParentChange gives a namespace of 100 pods another value of a label that 200 selectors ask for, 14 pods each,
// and of one that none asks for.
func BenchmarkParentChange(b *testing.B) {
	sets := benchSets(b)
	for _, key := range []string{"pcns.team", "pcns.stage"} {
		b.Run(key, func(b *testing.B) {
			count, i := 0, 0
			for b.Loop() {
				namespace := i % benchNamespaces
				inherited := benchParent(namespace)
				inherited[key] = fmt.Sprintf("t%d", (namespace+i/benchNamespaces+1)%20)
				sets.SetParent(fmt.Sprintf("kns.ns%d", namespace), inherited)
				count += told(sets.Changes())
				i++
			}
			for namespace := range benchNamespaces {
				sets.SetParent(fmt.Sprintf("kns.ns%d", namespace), benchParent(namespace))
			}
			sets.Changes()
			b.ReportMetric(float64(count)/float64(i), "members/op")
		})
	}
}
