// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"korat/policy/explain"
	"korat/test/lab"
)

const closedHosts = `
apiVersion: projectcalico.org/v3
kind: FelixConfiguration
metadata: {name: default}
spec: {defaultEndpointToHostAction: Drop, serviceCIDRs: [198.51.100.0/24, "2001:db8:96::/112"]}
`

// TestFlowsOfWhatNoPolicyAllows sends each kind of packet that is dropped whatever policies say: koratctl flows tells of it, with
// why, and explain shows the rule that has dropped it, with what it has counted.
func TestFlowsOfWhatNoPolicyAllows(t *testing.T) {
	w := newExplainedWorld(t)
	a, b := w.host("a"), w.host("b")
	w.koratctl(a, "apply", closedHosts)
	services := []netip.Addr{netip.MustParseAddr("198.51.100.9"), netip.MustParseAddr("2001:db8:96::9")}
	for i, addr := range services {
		w.commands(a, fmt.Sprintf("ip route add %s via %s", addr, b.Addresses()[i]))
	}
	f := w.follow(a, "-o", "json")
	for family, others := range w.near.Addresses() {
		far, box := w.db.Addresses()[family], w.mailbox(w.db, w.db.Addresses()[family])
		to := func(addr netip.Addr, flags ...string) []string {
			return append([]string{"--from", podName(w.web), "--to", addr.String()}, flags...)
		}
		own, node, service := w.web.Addresses()[family], a.Addresses()[family], services[family]
		for _, c := range []struct {
			why string
			do  func()
			// from and to are the packet's, and ask and chain what explain is asked and says; it knows of no spoofing.
			from, to netip.Addr
			ask      []string
			chain    string
		}{
			{"Egress a spoofed source: it is not an address of the pod's", func() { w.mail(w.web, others, box) }, others, far, nil, ""},
			{"Egress it is VXLAN, which pods may not send", func() { w.knock(w.web, far, "4789") }, own, far, to(far, "--proto", "udp", "--port", "4789"), "cali-fw-"},
			{"Egress it is IPv4 in IP, which pods may not send", func() { w.raw(w.web, far, 4) }, own, far, to(far, "--proto", "4"), "cali-fw-"},
			{
				"Egress FelixConfiguration's serviceCIDRs have the address, and no service is known there",
				func() { w.knock(w.web, service, "53") }, own, service, to(service, "--proto", "udp", "--port", "53"), "cali-cidr-block",
			},
			{
				"Ingress FelixConfiguration's defaultEndpointToHostAction is Drop",
				func() { w.knock(w.web, node, "9") }, own, node, to(node, "--proto", "udp", "--port", "9"), "cali-wl-to-host",
			},
		} {
			f.refuses(c.why, c.from, c.to, c.do)
			if c.ask != nil {
				w.counts(c.ask, c.chain, c.do)
			}
		}
	}
}

// raw sends a packet of a protocol.
func (w *explainedWorld) raw(from *lab.Pod, to netip.Addr, protocol uint8) {
	w.Helper()
	c, err := from.Dial(w.limit(), fmt.Sprintf("ip:%d", protocol), to.String())
	if err == nil {
		_, err = c.Write([]byte("knock"))
		err = errors.Join(err, c.Close())
	}
	if err != nil {
		w.Fatal(err)
	}
}

// counts wants explain to say on a that the last check there is decided in a chain whose name begins so, and that the rule
// counts what is sent.
func (w *explainedWorld) counts(ask []string, chain string, send func()) {
	w.Helper()
	at := func() explain.Located {
		e := w.explained(w.host("a"), ask...)
		var located *explain.Located
		for _, s := range e.Verdict.Sides {
			if s.Node == "a" {
				located = s.Decided.Located
			}
		}
		if located == nil || located.Counted == nil || !strings.HasPrefix(located.Chain, chain) {
			w.Fatalf("%v: %+v, located %+v", ask, e.Verdict, located)
		}
		return *located
	}
	before := at()
	send()
	w.until("the packet has been counted", func(context.Context) error {
		if after := at(); after.Packets != before.Packets+1 {
			return fmt.Errorf("%v: %d packets, and %d before", ask, after.Packets, before.Packets)
		}
		return nil
	})
}

// refuses does something until it is told of a packet from web with these addresses, for this reason.
func (f *follower) refuses(why string, from, to netip.Addr, do func()) {
	f.Helper()
	f.until(why, func(context.Context) error {
		do()
		all := f.told()
		for _, p := range all {
			if reportedBy(p) != why || p.From.Address != from || p.To.Address != to {
				continue
			}
			if p.Verdict != "denied" || p.From.Name != "default/web" || p.Policy != nil || p.In == "" {
				f.Errorf("%+v", p)
			}
			return nil
		}
		return fmt.Errorf("not told of among %d", len(all))
	})
}

// TestFlowsOfRevoked cuts an established flow: its packets, which go on, are told of on the node that cuts it.
func TestFlowsOfRevoked(t *testing.T) {
	w := newExplainedWorld(t)
	a, b := w.host("a"), w.host("b")
	follow := []*follower{w.follow(a, "-o", "json"), w.follow(b, "-o", "json")}
	follow[1].tells("b is followed", "Ingress np/default/db 2", func() { w.knock(w.near, w.db.Address(), "81") })
	for _, addr := range w.db.Addresses() {
		w.until("it is allowed", func(context.Context) error {
			if !w.answers(w.web, addr) {
				return errors.New("not yet")
			}
			return nil
		})
		c, err := w.web.Dial(w.limit(), "udp", net.JoinHostPort(addr.String(), echoPort))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s := &stream{}
		if _, err := c.Write([]byte("knock")); err != nil {
			t.Fatal(err)
		}
		if err := s.hearDatagram(c, []byte("knock")); err != nil || s.echoed.Load() != 1 {
			t.Fatalf("nothing comes back from %s: %v", addr, err)
		}
		w.koratctl(a, "apply", strings.ReplaceAll(explainedPolicies, "role == 'web'", "role == 'nobody'"))
		sender := netip.MustParseAddrPort(c.LocalAddr().String())
		w.until("the flow is told of", func(context.Context) error {
			if _, err := c.Write([]byte("knock")); err != nil {
				return err
			}
			for _, f := range follow {
				for _, p := range f.told() {
					if reportedBy(p) == " the flow was cut by a policy change" && p.From.Address == sender.Addr() && p.SourcePort == sender.Port() {
						return nil
					}
				}
			}
			return errors.New("not told of")
		})
		w.koratctl(a, "apply", explainedPolicies)
	}
}
