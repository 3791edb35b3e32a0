// SPDX-License-Identifier: Apache-2.0

package packetlog

import (
	"cmp"
	"context"
	"net/netip"
	"strings"
	"time"

	"korat/api"
	"korat/felix/kernel"
	"korat/policy"
)

// namesPeriod is how often names are looked up anew, at most.
const namesPeriod = time.Second

// reader says what reports mean. It remembers what it was told as long as that holds.
type reader struct {
	cluster Cluster
	edition uint64
	decided map[string]Decided
	names   names
}

func newReader(c Cluster) *reader {
	return &reader{cluster: c, decided: map[string]Decided{}}
}

// read turns a report into an Entry.
func (r *reader) read(ctx context.Context, report kernel.Report) Entry {
	letter, id, _ := strings.Cut(report.Prefix, "|")
	verdict, known := map[string]Verdict{"D": Denied, "L": Logged, "S": Staged}[letter]
	e := Entry{Time: report.Time, Verdict: verdict, In: report.In, Out: report.Out}
	if known {
		e.Decided = r.decide(ctx, id)
	} else {
		e.Verdict, e.Decided = Logged, Decided{Why: "a rule of somebody else's: " + report.Prefix}
	}
	r.names.renew(r.cluster, time.Now())
	e.From, e.To = r.names.end(report.In, report.Packet.Source), r.names.end(report.Out, report.Packet.Destination)
	e.Protocol, e.Length = report.Protocol.String(), report.Length
	e.SourcePort, e.DestinationPort = report.Packet.SourcePort, report.Packet.DestinationPort
	if icmp := report.Packet.ICMP; report.Protocol == policy.ICMP || report.Protocol == policy.ICMPv6 {
		e.ICMP = &ICMP{icmp.Type, icmp.Code}
	}
	return e
}

// decide says what an ID stands for.
func (r *reader) decide(ctx context.Context, id string) Decided {
	if now := r.cluster.Edition(); now != r.edition {
		r.edition = now
		clear(r.decided)
	}
	d, known := r.decided[id]
	if known {
		return d
	}
	d, known = r.cluster.Decided(ctx, id)
	if !known {
		return Decided{Why: "a rule that is gone by now (" + id + ")"}
	}
	r.decided[id] = d
	return d
}

// names are those of pods and nodes by their addresses, as one Snapshot has them.
type names struct {
	pods        api.Table[*api.WorkloadEndpoint]
	nodes       api.Table[*api.Node]
	renewed     time.Time
	byAddress   map[netip.Addr]string
	byInterface map[string]string
}

// renew looks whether there are others.
func (n *names) renew(c Cluster, now time.Time) {
	if now.Sub(n.renewed) < namesPeriod && now.After(n.renewed) {
		return
	}
	snap := c.Snapshot()
	n.renewed = now
	if n.byAddress != nil && n.pods.Same(snap.WorkloadEndpoints) && n.nodes.Same(snap.Nodes) {
		return
	}
	n.pods, n.nodes = snap.WorkloadEndpoints, snap.Nodes
	n.byAddress, n.byInterface = map[netip.Addr]string{}, map[string]string{}
	for w := range snap.WorkloadEndpoints.Objects() {
		name := api.PodName(w)
		for _, text := range w.Spec.IPNetworks {
			if p, err := netip.ParsePrefix(text); err == nil {
				n.byAddress[p.Addr()] = name
			}
		}
		if w.Spec.InterfaceName != "" { // of a pod of this node's
			n.byInterface[w.Spec.InterfaceName] = name
		}
	}
	for _, node := range snap.Nodes.All() {
		for _, p := range node.Spec.BGPAddresses().All() {
			n.byAddress[p.Addr()] = "node " + node.Name
		}
	}
}

// end names an end: a pod of this node by the interface, all others by the address.
func (n *names) end(device string, addr netip.Addr) End {
	return End{Name: cmp.Or(n.byInterface[device], n.byAddress[addr]), Address: addr}
}
