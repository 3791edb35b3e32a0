// SPDX-License-Identifier: Apache-2.0

package revocation_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"

	"korat/api"
	"korat/felix/calc"
	"korat/felix/kernel"
	"korat/felix/revocation"
	"korat/policy/compile"
)

// BenchmarkJudge has 100,000 flows of 100 pods judged anew, as after an agent's start, with 100 policies and 2,000 pods of
// other nodes. What reading them from the kernel costs is felix/kernel's BenchmarkReadFlows.
func BenchmarkJudge(b *testing.B) {
	const flows, own, others = 100_000, 100, 2_000
	address := func(net byte, i int) netip.Addr { return netip.AddrFrom4([4]byte{10, net, byte(i >> 8), byte(i)}) }
	var manifests string
	for i := range 100 {
		manifests += network(fmt.Sprintf("p%d", i), fmt.Sprintf("  order: %d\n  selector: app == 'a%d'\n  types: [Ingress]\n"+
			"  ingress: [{action: Allow, protocol: TCP, source: {selector: role == 'client'}, destination: {ports: [80]}}]\n", i, i%10))
	}
	objs, err := api.Decode([]byte(manifests))
	if err != nil {
		b.Fatal(err)
	}
	var pods []*api.WorkloadEndpoint
	for i := range own {
		p := pod("here", fmt.Sprint("pod", i), address(0, i).String()+"/32")
		p.Labels["app"] = fmt.Sprint("a", i%10)
		pods = append(pods, p)
	}
	for i := range others {
		p := pod("far", fmt.Sprint("pod", i), address(1, i).String()+"/32")
		p.Labels["role"] = "client"
		objs = append(objs, p)
	}
	var snap api.Snapshot
	changed := map[api.Key]struct{}{}
	for _, obj := range objs {
		api.Default(obj)
		snap = snap.With(obj)
		changed[obj.Key()] = struct{}{}
	}
	filter := calc.NewFilter("here")
	filter.Families(api.Families())
	filter.Own(snap, pods)
	filter.Changed(snap, changed)
	filter.Update()

	many := make([]kernel.Flow, flows)
	for i := range many {
		from, to := netip.AddrPortFrom(address(1, i%others), uint16(1024+i%50_000)), netip.AddrPortFrom(address(0, i%own), 80)
		many[i] = flow("tcp " + from.String() + " " + to.String())
	}
	for b.Loop() {
		t := &timed{flows: many, done: make(chan struct{}, 2)}
		ctx, cancel := context.WithCancel(b.Context())
		r := revocation.New(t, slog.New(slog.DiscardHandler))
		ended := make(chan struct{})
		go func() { r.Run(ctx); close(ended) }()
		r.Give(revocation.Job{
			Owed: revocation.Owed{Affected: compile.Affected{All: true}}, Node: "here", Pods: filter.Pods(), Rules: filter.Rules(), Snapshot: snap,
		})
		<-t.done
		cancel() // it rests by now
		<-ended
		if t.cut > 0 {
			b.Fatalf("%d flows were cut", t.cut)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/flows, "ns/flow")
}

// timed says when all flows have been judged: a Revoker deletes what the last ones have come to once all are read.
type timed struct {
	flows []kernel.Flow
	read  bool
	cut   int
	done  chan struct{}
}

func (t *timed) Read(_ context.Context, _ []netip.Addr, each func(kernel.Flow)) error {
	for _, f := range t.flows {
		each(f)
	}
	t.read = true
	return nil
}

func (t *timed) Delete(_ context.Context, flows []kernel.Flow) error {
	if t.cut += len(flows); t.read {
		t.done <- struct{}{}
	}
	return nil
}

func (t *timed) Mark(_ context.Context, flows []kernel.Flow, _, _ uint32) error {
	t.cut += len(flows)
	return nil
}
