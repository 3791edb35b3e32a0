// SPDX-License-Identifier: Apache-2.0

package differential

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"korat/api"
	"korat/policy"
)

// mix is what flows and objects there were: whatever is never there, or always allowed, is not tested.
type mix struct {
	flows, allowed int
	// objects are counted by kind, and verdicts by what a flow is.
	objects  map[api.Kind]int
	verdicts map[string]*tally
}

// tally counts flows of one kind.
type tally struct{ all, allowed int }

func newMix() *mix {
	m := &mix{objects: map[api.Kind]int{}, verdicts: map[string]*tally{}}
	for _, kind := range []api.Kind{
		api.KindNetworkPolicy, api.KindGlobalNetworkPolicy, api.KindKubernetesNetworkPolicy, api.KindClusterNetworkPolicy,
		api.KindStagedNetworkPolicy, api.KindStagedGlobalNetworkPolicy, api.KindTier, api.KindProfile, api.KindNetworkSet,
		api.KindGlobalNetworkSet, api.KindHostEndpoint, api.KindEndpointSlice, api.KindWorkloadEndpoint,
	} {
		m.objects[kind] = 0
	}
	for _, p := range []policy.Protocol{policy.TCP, policy.UDP, policy.SCTP, policy.UDPLite, policy.ICMP, policy.ICMPv6, gre} {
		m.verdicts[p.String()] = &tally{}
	}
	for _, way := range []string{"pod to pod", "pod to host", "pod to outside", "outside to pod", "outside to host", "host to outside", "IPv4", "IPv6"} {
		m.verdicts[way] = &tally{}
	}
	return m
}

// met counts the objects of a world.
func (m *mix) met(objs []api.Object) {
	for _, obj := range objs {
		m.objects[obj.Key().Kind]++
	}
}

// judged counts a flow.
func (m *mix) judged(f Flow, allowed bool) {
	m.flows++
	if allowed {
		m.allowed++
	}
	for _, what := range []string{f.Packet.Protocol.String(), f.way(), "IPv" + map[bool]string{true: "4", false: "6"}[f.Packet.Source.Is4()]} {
		if t := m.verdicts[what]; t != nil {
			t.all++
			if allowed {
				t.allowed++
			}
		}
	}
}

// way says between whom the flow is.
func (f Flow) way() string {
	kind := func(place string) string {
		switch place {
		case host, stray:
			return place
		case outside, uplink:
			return outside
		}
		return "pod"
	}
	return kind(f.Shot.From) + " to " + kind(f.At)
}

// lacks says what was too rare to tell anything.
func (m *mix) lacks() []string {
	var all []string
	for kind, n := range m.objects {
		if n == 0 {
			all = append(all, fmt.Sprintf("there was no %s", kind))
		}
	}
	for what, t := range m.verdicts {
		if t.allowed < t.all/20 || t.allowed > t.all*19/20 || t.all < m.flows/500 {
			all = append(all, fmt.Sprintf("%s: %d of %d flows are allowed: that tells little", what, t.allowed, t.all))
		}
	}
	return all
}

// String gives a closing line.
func (m *mix) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d flows as explain says, %d allowed and %d denied; allowed", m.flows, m.allowed, m.flows-m.allowed)
	for i, what := range slices.Sorted(maps.Keys(m.verdicts)) {
		t := m.verdicts[what]
		fmt.Fprintf(&b, "%s %s %d of %d", map[bool]string{true: ":", false: ","}[i == 0], what, t.allowed, t.all)
	}
	b.WriteString("; objects")
	for i, kind := range slices.Sorted(maps.Keys(m.objects)) {
		fmt.Fprintf(&b, "%s %d %s", map[bool]string{true: ":", false: ","}[i == 0], m.objects[kind], kind)
	}
	return b.String()
}
