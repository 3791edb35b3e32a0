// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"korat/test/lab"
	"korat/test/probe"
)

// TestHostEndpoints puts host b's own interface under policies, in each of the ways that there are. Whatever they are,
// b goes on speaking BGP, its agent reaches the datastore, and it can be logged into; koratctl explain says of each flow
// what becomes of it; and in the end the packet filter is what it was.
func TestHostEndpoints(t *testing.T) {
	w := newHostWorld(t, hostFlows)
	for _, h := range []string{"a", "b"} { // others' rules are in the tables that host endpoints need
		w.commands(w.host(h), "iptables -t mangle -A POSTROUTING -m comment --comment theirs\nip6tables -t mangle -A POSTROUTING -m comment --comment theirs")
	}
	w.translate()
	w.holds("", nil)
	before := w.saved()
	established := w.converse()

	for _, step := range hostSteps() {
		manifest := w.names.Replace(step.apply)
		if manifest != "" {
			w.koratctl(w.host("c"), "apply", manifest)
		}
		if step.remove != "" {
			w.koratctl(w.host("c"), "delete", step.remove)
		}
		w.holds(step.denied, step.explained)
		established.goesOn(step.what)
		w.meshed(w.Hosts()...)
		if t.Failed() {
			t.Fatal(step.what)
		}
		t.Log("well:", step.what)
	}
	for _, h := range w.Hosts() {
		w.flapped(h, 0, slices.DeleteFunc(w.Hosts(), func(o *lab.Host) bool { return o == h })...)
	}
	w.until("the packet filter is as before", func(context.Context) error {
		if after := w.saved(); after != before {
			return fmt.Errorf("have:\n%s\nwant:\n%s", after, before)
		}
		return nil
	})
}

// hostStep is what is applied or removed, and which of the flows do not pass then.
type hostStep struct {
	what, apply, remove string
	denied              string
	// explained are the flows that explain is asked of in another form, as policies see them.
	explained map[string]string
}

const (
	hostAll = `
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: b-all, labels: {role: host}}
spec: {node: b, interfaceName: '*'}
`
	hostUplink = `
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: b-uplink, labels: {role: uplink}}
spec: {node: b, interfaceName: eth0}
`
	hostByAddress = `
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: b-uplink, labels: {role: uplink}}
spec: {node: b, expectedIPs: [B4]}
`
	hostOwn = `
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: host-own}
spec:
  selector: role == 'host'
  types: [Ingress, Egress]
  ingress:
  - {action: Allow, protocol: TCP, source: {nets: [A4]}, destination: {ports: [80]}}
  - {action: Allow, protocol: TCP, source: {nets: [A6]}, destination: {ports: [80]}}
  egress:
  - {action: Allow, protocol: TCP, destination: {nets: [C4], ports: [80]}}
  - {action: Allow, protocol: TCP, destination: {nets: [C6], ports: [80]}}
`
	uplinkOwn = `
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: uplink-own}
spec:
  selector: role == 'uplink'
  types: [Ingress, Egress]
  ingress: [{action: Allow, protocol: TCP, destination: {ports: [81]}}]
  egress: [{action: Allow, protocol: TCP, destination: {ports: [81]}}]
`
	hostForward = `
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: host-forward}
spec:
  selector: role == 'host'
  order: 1
  applyOnForward: true
  types: [Ingress, Egress]
  ingress: [{action: Deny, protocol: TCP, destination: {ports: [81]}}, {action: Allow}]
  egress:
  - {action: Deny, protocol: TCP, destination: {nets: [C4]}}
  - {action: Deny, protocol: TCP, destination: {nets: [C6]}}
  - {action: Allow}
`
	hostPreDNAT = `
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: host-prednat}
spec:
  selector: role == 'host'
  order: 1
  preDNAT: true
  applyOnForward: true
  types: [Ingress]
  ingress:
  - {action: Deny, protocol: TCP, source: {nets: [C4]}, destination: {ports: [82]}}
  - {action: Deny, protocol: TCP, source: {nets: [C6]}, destination: {ports: [82]}}
`
	hostNoTrack = `
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: host-notrack}
spec:
  selector: role == 'host'
  order: 1
  doNotTrack: true
  applyOnForward: true
  types: [Ingress, Egress]
  ingress:
  - {action: Allow, protocol: TCP, destination: {nets: [B4], ports: [81]}}
  - {action: Allow, protocol: TCP, destination: {nets: [B6], ports: [81]}}
  - {action: Deny, protocol: TCP, destination: {nets: [B4], ports: [80]}}
  - {action: Deny, protocol: TCP, destination: {nets: [B6], ports: [80]}}
  egress:
  - {action: Allow, protocol: TCP, source: {nets: [B4], ports: [81]}}
  - {action: Allow, protocol: TCP, source: {nets: [B6], ports: [81]}}
`
	hostDefaultAllow = `
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: b-all, labels: {role: none}}
spec: {node: b, interfaceName: '*', profiles: [projectcalico-default-allow]}
`
	etcdHostToo = `
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: a-all}
spec: {node: a, interfaceName: '*'}
`
)

// hostSteps follow each other. What goes through b's host endpoints is what a and c and the pod a1 exchange with b, and
// with the pod b1.
func hostSteps() []hostStep {
	own := strings.Fields("a>b:tcp/80 a>b:tcp/81 a>b:udp/80 c>b:tcp/80 a1>b:tcp/80 b>a:tcp/80 b>c:tcp/80 b>c:udp/80 b>a1:tcp/80")
	but := func(flows ...string) string {
		rest := slices.DeleteFunc(slices.Clone(own), func(f string) bool { return slices.Contains(flows, f) })
		return strings.Join(rest, " ")
	}
	translated := map[string]string{"a>b:tcp/82": "a>b1:tcp/80", "c>b:tcp/82": "c>b1:tcp/80"}
	return []hostStep{
		{what: "without policies all of the host is closed, nothing that it forwards", apply: hostAll, denied: but(), explained: translated},
		{
			what: "its own policies", apply: hostOwn, explained: translated,
			denied: but("a>b:tcp/80", "b>c:tcp/80"),
		},
		{
			what: "an interface of its own has policies of its own", apply: hostUplink + "---" + uplinkOwn, explained: translated,
			denied: but("a>b:tcp/81"),
		},
		{
			what: "the same by its address", apply: hostByAddress, explained: translated,
			denied: but("a>b:tcp/81"),
		},
		{
			what: "that one is gone again", remove: hostUplink + "---" + uplinkOwn, explained: translated,
			denied: but("a>b:tcp/80", "b>c:tcp/80"),
		},
		{
			what: "applyOnForward", apply: hostForward, remove: hostOwn, explained: translated,
			denied: "a>b:tcp/81 a>b1:tcp/81 a1>b1:tcp/81 b>c:tcp/80 b1>c:tcp/80",
		},
		{
			what: "preDNAT", apply: hostPreDNAT, remove: hostForward, explained: map[string]string{"a>b:tcp/82": "a>b1:tcp/80"},
			denied: but() + " c>b:tcp/82",
		},
		{
			what: "doNotTrack", apply: hostNoTrack + "---" + hostOwn, remove: hostPreDNAT, explained: translated,
			denied: but("a>b:tcp/81", "b>c:tcp/80"),
		},
		{what: "Calico's own profile", apply: hostDefaultAllow, remove: hostNoTrack + "---" + hostOwn, explained: translated},
		{
			what: "the host with the datastore, too", apply: hostAll + etcdHostToo, explained: translated,
			denied: but() + " a>b:tcp/22 a>b:tcp/82 a>b1:tcp/80 a>b1:tcp/81 b>a:udp/53 b1>a:tcp/80 c>a:tcp/80",
		},
		{what: "nothing any more", remove: hostAll + etcdHostToo, explained: translated},
	}
}

// hostFlows are all that are asked for. What is to failsafe ports passes always.
const hostFlows = `a>b:tcp/22 a>b:tcp/80 a>b:tcp/81 a>b:udp/80 a>b:tcp/82 c>b:tcp/80 c>b:tcp/82 c>b:tcp/22 a1>b:tcp/80
	b>a:tcp/80 b>c:tcp/80 b>c:udp/80 b>a:udp/53 b>c:tcp/6443 b>a1:tcp/80 b>b1:tcp/80 b1>b:tcp/80
	a>b1:tcp/80 a>b1:tcp/81 a1>b1:tcp/80 a1>b1:tcp/81 b1>a:tcp/80 b1>c:tcp/80 b1>a1:tcp/80 c>a:tcp/80 c>a:tcp/22`

// hostWorld is three hosts, a pod each on a and b, and what asks and answers on all of them.
type hostWorld struct {
	*world
	addresses map[string][]netip.Addr
	places    map[string]*probe.Place
	names     *strings.Replacer
	pods      map[string]*lab.Pod
	// flows are those that are asked for.
	flows []string
}

func newHostWorld(t *testing.T, flows string) *hostWorld {
	w := &hostWorld{
		world: clusterOf(t, lab.Dual, 3), addresses: map[string][]netip.Addr{}, places: map[string]*probe.Place{}, pods: map[string]*lab.Pod{},
		flows: strings.Fields(flows),
	}
	add := func(name string, where interface {
		insider
		lab.Addressed
	},
	) {
		p, err := probe.Open(probe.Config{Name: name, Addresses: where.Addresses(), Ports: []uint16{22, 53, 80, 81, 6443}, Inside: where.Inside})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		})
		w.places[name], w.addresses[name] = p, where.Addresses()
	}
	var names []string
	for _, h := range w.Hosts() {
		add(h.Name, h)
		names = append(names, strings.ToUpper(h.Name)+"4", h.Addresses()[0].String(), strings.ToUpper(h.Name)+"6", h.Addresses()[1].String())
	}
	w.names = strings.NewReplacer(names...)
	for _, h := range []string{"a", "b"} {
		p := w.pod(w.host(h), h+"1")
		w.pods[p.Name] = p
		add(p.Name, p)
	}
	w.matrix(w.world.places())
	return w
}

// translate lets port 82 of b be the pod b1's port 80, as a service's is.
func (w *hostWorld) translate() {
	b, b1 := w.addresses["b"], w.addresses["b1"]
	w.commands(w.host("b"), fmt.Sprintf(
		"iptables -t nat -A PREROUTING -d %s -p tcp --dport 82 -j DNAT --to-destination %s:80\nip6tables -t nat -A PREROUTING -d %s -p tcp --dport 82 -j DNAT --to-destination [%s]:80",
		b[0], b1[0], b[1], b1[1]))
}

// hostFlow is "a>b:tcp/80", in a family.
type hostFlow struct {
	from, to, protocol, port string
	family                   int
}

func parseHostFlow(text string, family int) hostFlow {
	from, rest, _ := strings.Cut(text, ">")
	to, rest, _ := strings.Cut(rest, ":")
	protocol, port, _ := strings.Cut(rest, "/")
	return hostFlow{from, to, protocol, port, family}
}

// holds waits until just the denied ones of all flows do not pass, in both families, and then asks explain of each.
func (w *hostWorld) holds(denied string, explained map[string]string) {
	w.Helper()
	all := w.flows
	w.until("just these do not pass: "+denied, func(context.Context) error {
		var questions []*probe.Question
		for family := range 2 {
			for _, text := range all {
				f := parseHostFlow(text, family)
				questions = append(questions, &probe.Question{
					From: w.places[f.from], To: netip.MustParseAddrPort(net.JoinHostPort(w.addresses[f.to][family].String(), f.port)),
					Protocol: probe.Protocol(strings.ToUpper(f.protocol)), Expected: !slices.Contains(strings.Fields(denied), text),
				})
			}
		}
		if err := probe.Ask(questions, probe.Patience{Expected: 2500 * time.Millisecond, Others: 250 * time.Millisecond}); err != nil {
			return err
		}
		var wrong []error
		for i, q := range questions {
			if q.Reached != q.Expected {
				wrong = append(wrong, fmt.Errorf("%s (%s): passes: %t", all[i%len(all)], q.To, q.Reached))
			}
		}
		return errors.Join(wrong...)
	})
	w.explains(strings.Fields(denied), explained)
}

// explains holds what koratctl explain says against what is so.
func (w *hostWorld) explains(denied []string, explained map[string]string) {
	w.Helper()
	slots := make(chan struct{}, 4)
	var done sync.WaitGroup
	for family := range 2 {
		for _, text := range w.flows {
			as, other := explained[text]
			switch {
			case !other && strings.HasSuffix(text, "/82") && !slices.Contains(denied, text):
				continue // nothing listens there: without host endpoints it is nothing that policies see
			case !other:
				as = text
			}
			done.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				f := parseHostFlow(as, family)
				args := []string{"koratctl", "explain", "--from", w.end(f.from), "--to", w.end(f.to), "--proto", f.protocol, "--port", f.port}
				if family == 1 {
					args = append(args, "--ipv6")
				}
				if strings.HasPrefix(f.from, "b") {
					args = append(args, "--out-interface", "eth0")
				} else if strings.HasPrefix(f.to, "b") {
					args = append(args, "--in-interface", "eth0")
				}
				want := 0
				if slices.Contains(denied, text) {
					want = 1
				}
				if r := w.try(w.host("c"), "", args...); r.status != want {
					w.Errorf("%v: status %d, want %d: %s%s", args, r.status, want, r.stdout, r.stderr)
				}
			})
		}
	}
	done.Wait()
}

// end is what explain calls a host or pod.
func (w *hostWorld) end(name string) string {
	if p := w.pods[name]; p != nil {
		return p.Namespace + "/" + p.Name
	}
	return name
}

var savedNoise = regexp.MustCompile(`(?m)^#.*\n| \[\d+:\d+\]$`)

// saved gives the rules and sets of a and b, without counters.
func (w *hostWorld) saved() string {
	w.Helper()
	var all strings.Builder
	for _, h := range []string{"a", "b"} {
		for _, command := range []string{"iptables-save", "ip6tables-save", "ipset save"} {
			fmt.Fprintf(&all, "%s# %s\n%s\n", h, command, savedNoise.ReplaceAllString(w.run(w.host(h), command), ""))
		}
	}
	return all.String()
}

// conversations are established connections between a and b, one of each family in each direction.
type conversations struct {
	*hostWorld
	conns []net.Conn
}

// conversationPort is a failsafe port in both directions, and none that a policy here is about: connections to other
// ports are cut when policies come to forbid them.
const conversationPort = "6666"

func (w *hostWorld) converse() *conversations {
	w.Helper()
	c := &conversations{hostWorld: w}
	for _, ends := range [][2]string{{"a", "b"}, {"b", "a"}} {
		for family := range 2 {
			at := net.JoinHostPort(w.addresses[ends[1]][family].String(), conversationPort)
			w.echo(w.host(ends[1]), at)
			conn, err := w.host(ends[0]).Dial(w.limit(), "tcp", at)
			if err != nil {
				w.Fatal(err)
			}
			w.Cleanup(func() { conn.Close() })
			c.conns = append(c.conns, conn)
		}
	}
	c.goesOn("at first")
	return c
}

// echo answers at an address.
func (w *hostWorld) echo(h *lab.Host, at string) {
	w.Helper()
	var l net.Listener
	err := h.Inside(func() (err error) { l, err = (&net.ListenConfig{}).Listen(w.ctx, "tcp", at); return err })
	if err != nil {
		w.Fatal(err)
	}
	var serving sync.WaitGroup
	w.Cleanup(func() { l.Close(); serving.Wait() })
	serving.Go(func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.Copy(conn, conn)
	})
}

// goesOn sends something by each and waits for it to come back.
func (c *conversations) goesOn(when string) {
	c.Helper()
	for _, conn := range c.conns {
		text := make([]byte, 4)
		err := conn.SetDeadline(time.Now().Add(patience))
		if err == nil {
			_, err = conn.Write([]byte("ping"))
		}
		if err == nil {
			_, err = io.ReadFull(conn, text)
		}
		if err != nil {
			c.Errorf("%s: connection %s to %s: %v", when, conn.LocalAddr(), conn.RemoteAddr(), err)
		}
	}
}
