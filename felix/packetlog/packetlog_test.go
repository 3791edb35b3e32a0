// SPDX-License-Identifier: Apache-2.0

package packetlog_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"korat/api"
	"korat/felix/kernel"
	"korat/felix/packetlog"
	"korat/policy"
)

// source is a packet log.
type source struct {
	c      chan kernel.Report
	lost   atomic.Uint64
	err    error
	closed bool
}

func (s *source) C() <-chan kernel.Report { return s.c }
func (s *source) Lost() uint64            { return s.lost.Load() }
func (s *source) Err() error              { return s.err }
func (s *source) Close() error {
	if !s.closed {
		s.closed = true
		close(s.c)
	}
	return nil
}

// cluster knows rules.
type cluster struct {
	edition uint64
	rules   map[string]packetlog.Decided
	asked   []string
	snap    api.Snapshot
}

func (c *cluster) Edition() uint64        { return c.edition }
func (c *cluster) Snapshot() api.Snapshot { return c.snap }
func (c *cluster) Decided(_ context.Context, id string) (packetlog.Decided, bool) {
	c.asked = append(c.asked, id)
	d, known := c.rules[id]
	return d, known
}

// site is a Log with somebody who follows.
type site struct {
	*testing.T
	source  *source
	sources []*source
	failing error
	cluster *cluster
	log     *packetlog.Log
}

func newSite(t *testing.T) *site {
	first := 1
	s := &site{T: t, cluster: &cluster{rules: map[string]packetlog.Decided{
		"deny": {Direction: api.Ingress, Policy: &policy.ID{Kind: policy.KindNetworkPolicy, Namespace: "shop", Name: "db"}, Rule: &first, Action: api.Deny},
		"end":  {Direction: api.Egress, Why: "no rule of tier default matches"},
	}}}
	pod := func(namespace, name, iface, address string) *api.WorkloadEndpoint {
		w := &api.WorkloadEndpoint{}
		w.Namespace, w.Name = namespace, name
		w.Spec.Pod, w.Spec.Endpoint, w.Spec.InterfaceName, w.Spec.IPNetworks = name, "eth0", iface, []string{address}
		return w
	}
	node := &api.Node{}
	node.Name = "b"
	node.Spec.BGP = &api.NodeBGPSpec{IPv4Address: "192.0.2.2/24"}
	s.cluster.snap = s.cluster.snap.With(pod("shop", "db", "cali1", "10.0.0.1/32")).With(pod("shop", "far", "", "10.0.1.1/32")).With(node)
	s.log = packetlog.New(func() (packetlog.Source, error) {
		if s.failing != nil {
			return nil, s.failing
		}
		s.source = &source{c: make(chan kernel.Report)}
		s.sources = append(s.sources, s.source)
		return s.source, nil
	}, s.cluster)
	return s
}

// follow gives what is told to one follower, and how to end it, which gives its error.
func (s *site) follow(each func(packetlog.Entry) error) (end func() error) {
	ctx, cancel := context.WithCancel(s.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.log.Follow(ctx, each) }()
	synctest.Wait()
	return func() error {
		cancel()
		return <-ended
	}
}

// collect follows, and gives what was told.
func (s *site) collect() (told *[]packetlog.Entry, end func() error) {
	told = &[]packetlog.Entry{}
	return told, s.follow(func(e packetlog.Entry) error { *told = append(*told, e); return nil })
}

func (s *site) report(prefix string) {
	s.source.c <- kernel.Report{
		Prefix: prefix, In: "eth0", Out: "cali1", Protocol: policy.TCP, Length: 60, Time: time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC),
		Packet: kernel.Tuple{
			Source: netip.MustParseAddr("10.0.1.1"), Destination: netip.MustParseAddr("10.0.0.1"), SourcePort: 40000, DestinationPort: 80,
		},
	}
	synctest.Wait()
}

// TestRead says what reports mean.
func TestRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		told, end := s.collect()
		for _, prefix := range []string{"D|deny", "L|deny", "S|deny", "D|end", "D|gone", "hello", ""} {
			s.report(prefix)
		}
		s.source.c <- kernel.Report{
			Prefix: "D|end", In: "cali1", Protocol: policy.ICMPv6, Length: 104,
			Packet: kernel.Tuple{Source: netip.MustParseAddr("fe80::1"), Destination: netip.MustParseAddr("fd00::9"), ICMP: kernel.ICMP{Type: 128}},
		}
		s.source.c <- kernel.Report{
			Prefix: "D|end", In: "eth0", Protocol: 47,
			Packet: kernel.Tuple{Source: netip.MustParseAddr("192.0.2.2"), Destination: netip.MustParseAddr("198.51.100.1")},
		}
		synctest.Wait()
		if err := end(); err != nil {
			t.Error(err)
		}
		var b strings.Builder
		for _, e := range *told {
			text, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			b.Write(append(text, '\n'))
		}
		const (
			begin  = `{"time":"2026-08-01T12:00:00Z","verdict":`
			packet = `,"from":{"name":"shop/far","address":"10.0.1.1"},"to":{"name":"shop/db","address":"10.0.0.1"},"protocol":"TCP","sourcePort":40000,"destinationPort":80,"length":60`
			by     = `,"direction":"Ingress","policy":{"kind":"np","namespace":"shop","name":"db"},"rule":1,"action":"Deny"`
			way    = `,"in":"eth0","out":"cali1"}` + "\n"
		)
		want := begin + `"denied"` + packet + by + way +
			begin + `"logged"` + packet + by + way +
			begin + `"staged"` + packet + by + way +
			begin + `"denied"` + packet + `,"direction":"Egress","why":"no rule of tier default matches"` + way +
			begin + `"denied"` + packet + `,"why":"a rule that is gone by now (gone)"` + way +
			begin + `"logged"` + packet + `,"why":"a rule of somebody else's: hello"` + way +
			begin + `"logged"` + packet + `,"why":"a rule of somebody else's: "` + way +
			`{"time":"0001-01-01T00:00:00Z","verdict":"denied","from":{"name":"shop/db","address":"fe80::1"},"to":{"address":"fd00::9"},"protocol":"ICMPv6","icmp":{"type":128,"code":0},"length":104,"direction":"Egress","why":"no rule of tier default matches","in":"cali1"}` + "\n" +
			`{"time":"0001-01-01T00:00:00Z","verdict":"denied","from":{"name":"node b","address":"192.0.2.2"},"to":{"address":"198.51.100.1"},"protocol":"47","direction":"Egress","why":"no rule of tier default matches","in":"eth0"}` + "\n"
		if diff := cmp.Diff(want, b.String()); diff != "" {
			t.Error(diff)
		}
		// What is known is asked for once, what is not each time.
		if have, want := strings.Join(s.cluster.asked, " "), "deny end gone"; have != want {
			t.Errorf("asked for %s, want %s", have, want)
		}
	})
}

// TestEdition wants IDs to be asked for anew once they may stand for something else.
func TestEdition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		told, end := s.collect()
		s.report("D|deny")
		s.cluster.rules["deny"], s.cluster.edition = packetlog.Decided{Why: "another"}, 1
		s.report("D|deny")
		if err := end(); err != nil {
			t.Error(err)
		}
		if len(*told) != 2 || (*told)[0].Policy == nil || (*told)[1].Why != "another" {
			t.Errorf("%+v", *told)
		}
	})
}

// TestNames wants a pod that comes later to be known by its name, some time after.
func TestNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		told, end := s.collect()
		s.cluster.snap = s.cluster.snap.Without(api.Key{Kind: api.KindWorkloadEndpoint, Namespace: "shop", Name: "far"})
		s.report("D|deny")
		far := &api.WorkloadEndpoint{}
		far.Namespace, far.Name = "shop", "another"
		far.Spec.Pod, far.Spec.IPNetworks = "another", []string{"10.0.1.1/32"}
		s.cluster.snap = s.cluster.snap.With(far)
		time.Sleep(2 * time.Second) // of the bubble's time
		s.report("D|deny")
		if err := end(); err != nil {
			t.Error(err)
		}
		if len(*told) != 2 || (*told)[0].From.Name != "" || (*told)[1].From.Name != "shop/another" {
			t.Errorf("%+v", *told)
		}
	})
}

// TestFollowers have each packet told to all, and the kernel asked only while somebody follows.
func TestFollowers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		first, endFirst := s.collect()
		second, endSecond := s.collect()
		s.report("D|deny")
		if err := endFirst(); err != nil {
			t.Error(err)
		}
		s.report("D|end")
		if len(s.sources) != 1 || s.source.closed {
			t.Errorf("%d sources, closed: %t", len(s.sources), s.source.closed)
		}
		if err := endSecond(); err != nil {
			t.Error(err)
		}
		if len(*first) != 1 || len(*second) != 2 || !s.source.closed {
			t.Errorf("told %d and %d, closed: %t", len(*first), len(*second), s.source.closed)
		}
		third, endThird := s.collect()
		s.report("D|deny")
		if err := endThird(); err != nil || len(*third) != 1 || len(s.sources) != 2 {
			t.Errorf("%v, told %d, %d sources", err, len(*third), len(s.sources))
		}
	})
}

// TestLost has more reported than a follower takes, and than the kernel could hand on.
func TestLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		told, end := s.collect()
		hold := make(chan struct{})
		var slow []packetlog.Entry
		endSlow := s.follow(func(e packetlog.Entry) error { <-hold; slow = append(slow, e); return nil })
		const n = 3000
		for range n {
			s.report("D|deny")
		}
		if len(*told) != n {
			t.Errorf("told %d of %d", len(*told), n)
		}
		close(hold)
		s.source.lost.Store(7)
		time.Sleep(3 * time.Second) // of the bubble's time
		if err := errors.Join(end(), endSlow()); err != nil {
			t.Error(err)
		}
		for name, all := range map[string][]packetlog.Entry{"slow": slow, "fast": *told} {
			var packets, lost uint64
			for _, e := range all {
				if e.Verdict == packetlog.Lost {
					lost += e.Lost
				} else {
					packets++
				}
			}
			if packets+lost != n+7 || lost < 7 || name == "fast" && lost != 7 {
				t.Errorf("%s: %d packets, %d lost", name, packets, lost)
			}
		}
	})
}

// TestEnds has the source fail, at first and later, and a follower.
func TestEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		s.failing = errors.New("another program hears it")
		if err := s.log.Follow(t.Context(), nil); !errors.Is(err, s.failing) {
			t.Error(err)
		}
		s.failing = nil
		_, end := s.collect()
		_, endOther := s.collect()
		s.source.err = errors.New("no buffer space")
		_ = s.source.Close()
		synctest.Wait()
		for _, end := range []func() error{end, endOther} {
			if err := end(); !errors.Is(err, s.source.err) {
				t.Error(err)
			}
		}
		told, end := s.collect() // with a new one
		full := errors.New("the pipe is closed")
		endFull := s.follow(func(packetlog.Entry) error { return full })
		s.report("D|deny")
		if err := endFull(); !errors.Is(err, full) {
			t.Error(err)
		}
		if err := end(); err != nil || len(*told) != 1 {
			t.Errorf("%v, told %d", err, len(*told))
		}
	})
}
