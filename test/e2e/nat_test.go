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
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"korat/test/lab"
)

// natWorld is hosts a and b with a pod each, and one outside of the cluster that has no route to pods. Others have rules on b,
// whose pod is translated.
type natWorld struct {
	*world
	a, b, outside *lab.Host
	backend       string
	pod, peer     *lab.Pod
}

// witnessPort is where everybody is told by which address he is known there.
const witnessPort = "81"

// TestNATOutgoing: pods of pools with natOutgoing reach who knows their node alone, by its address; among pods addresses stay.
func TestNATOutgoing(t *testing.T) {
	t.Parallel()
	for _, backend := range []string{"NFT", "Legacy"} {
		t.Run(backend, func(t *testing.T) { translates(t, backend) })
	}
}

func newNATWorld(t *testing.T, backend string) *natWorld {
	t.Helper()
	w := &natWorld{world: clusterOf(t, lab.Dual, 2), backend: backend}
	w.a, w.b = w.host("a"), w.host("b")
	w.koratctl(w.a, "apply", felixDefault(backend, ""))
	var err error
	w.outside, err = w.Cluster.Host(w.limit(), lab.HostConfig{Name: "outside", Interfaces: []lab.Interface{{
		Switch: w.Switch, Address: netip.MustParsePrefix("192.168.100.200/24"), IPv6: netip.MustParsePrefix("fd00:192:168::200/64"),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	w.pod, w.peer = w.labelled(w.b, "pod", "server"), w.world.pod(w.a, "peer")
	for _, p := range []answerer{w.peer, w.outside} {
		w.witness(p)
	}
	w.echoes(w.outside)
	for _, program := range programs(backend, "") {
		w.shell(strings.ReplaceAll(`IPT -w -t nat -N KUBE-POSTROUTING
IPT -w -t nat -I POSTROUTING -j KUBE-POSTROUTING
IPT -w -t nat -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
IPT -w -t nat -A KUBE-POSTROUTING -j MASQUERADE --random-fully`, "IPT", program))
	}
	return w
}

func translates(t *testing.T, backend string) {
	w := newNATWorld(t, backend)
	w.sees(w.pod, w.peer, w.pod.Addresses())
	w.ignores("before", w.pod)
	_, theirs := w.nat(w.limit())
	w.natOutgoing(true)

	// A pool that is disabled is one still. Its pods are not translated, and who sends to them is not either.
	w.koratctl(w.a, "apply", pool("third", "10.33.0.0/24", 28, false))
	var third *lab.Pod
	w.until("a pod has an address of the third pool", func(ctx context.Context) (err error) {
		third, err = w.a.AddPod(ctx, lab.PodConfig{Name: "third", Network: network(`"ipv4_pools":["third"]`)})
		return err
	})
	w.witness(third)
	w.koratctl(w.a, "apply", pool("third", "10.33.0.0/24", 28, true))
	w.sees(w.pod, w.outside, w.b.Addresses())
	w.sees(w.pod, w.peer, w.pod.Addresses())
	w.sees(w.pod, third, w.pod.Addresses()[:1])
	w.ignores("a pool without natOutgoing", third)

	have := w.try(w.a, "", "koratctl", "explain", "--from", "default/pod", "--to", w.outside.Address().String(), "--proto", "tcp", "--port", "80")
	if want := "node b gives it its own address, taken to be " + w.b.Address().String(); !strings.Contains(have.stdout, want) {
		t.Errorf("explain: %s%s", have.stdout, have.stderr)
	}
	w.isRevoked()
	theirs = w.isLast(theirs)
	w.restarts()

	w.natOutgoing(false)
	w.until("nothing of ours is left in nat", func(ctx context.Context) error {
		ours, others := w.nat(ctx)
		if diff := cmp.Diff(theirs, others); diff != "" {
			t.Errorf("others' rules, before (-) and after (+):\n%s", diff)
		}
		if ours != "" {
			return errors.New(ours)
		}
		return nil
	})
	w.ignores("afterwards", w.pod)
	w.sees(w.pod, w.peer, w.pod.Addresses())
}

// isRevoked cuts what a policy forbids: its packets have another source outside.
func (w *natWorld) isRevoked() {
	w.Helper()
	flows := w.streamsTo(w.pod, "pod to outside", w.outside.Addresses())
	w.going(flows...)
	const closed = `
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: closed, namespace: default}
spec: {selector: role == 'server', types: [Egress], egress: [{action: Allow, destination: {selector: all()}}]}
`
	w.koratctl(w.a, "apply", closed)
	w.cut(flows...)
	w.koratctl(w.a, "delete", closed)
	w.going(flows...)
}

// isLast has somebody append a rule, and wants ours behind it; it gives others' rules then.
func (w *natWorld) isLast(before string) string {
	w.Helper()
	for _, program := range programs(w.backend, "") {
		w.shell(program + " -w -t nat -A POSTROUTING -m mark --mark 0x1/0x1 -j RETURN")
	}
	var theirs string
	w.until("our rule is the last one", func(ctx context.Context) error {
		ours, others := w.nat(ctx)
		theirs = others
		if strings.Count(ours, "(others before: true, behind: false)") != 2 {
			return errors.New(ours)
		}
		return nil
	})
	if n := strings.Count(theirs, "\n") - strings.Count(before, "\n"); n != 2 {
		w.Errorf("others have %d rules more:\n%s", n, theirs)
	}
	return theirs
}

// restarts wants nothing written.
func (w *natWorld) restarts() {
	w.Helper()
	before, _ := w.nat(w.limit())
	if err := w.Agents[1].Kill(); err != nil {
		w.Fatal(err)
	}
	w.sees(w.pod, w.outside, w.b.Addresses())
	w.Agents[1] = w.start(w.b)
	w.ready(w.Agents[1])
	w.meshed(w.a, w.b)
	if n := w.metric(w.b, "korat_step_changes_total"); n != 0 {
		w.Errorf("an agent that starts again makes %v changes", n)
	}
	if after, _ := w.nat(w.limit()); after != before {
		w.Errorf("before (-), after (+):\n%s", cmp.Diff(before, after))
	}
}

var cidrLine = regexp.MustCompile(`(?m)^( *)cidr:`)

// natOutgoing sets it of all pools.
func (w *natWorld) natOutgoing(on bool) {
	w.Helper()
	text := w.run(w.a, "koratctl get ippools -o yaml")
	if on {
		text = cidrLine.ReplaceAllString(text, "${1}natOutgoing: true\n${1}cidr:")
	} else {
		text = strings.ReplaceAll(text, "natOutgoing: true", "natOutgoing: false")
	}
	w.koratctl(w.a, "apply", text)
}

// nat gives what b has in nat that is ours, with where our rules in the kernel's own chains are, and what is not.
func (w *natWorld) nat(ctx context.Context) (ours, theirs string) {
	w.Helper()
	var all []string
	for _, program := range programs(w.backend, "-save") {
		out, err := w.b.Exec(ctx, program, "-t", "nat")
		if err != nil {
			w.Fatal(err)
		}
		all = append(all, rulesOf(program, out)...)
	}
	return sortOut(all)
}

func (w *natWorld) shell(script string) {
	w.Helper()
	if r := w.try(w.b, "", "sh", "-ec", script); r.status != 0 {
		w.Fatalf("%s: status %d: %s", script, r.status, r.stderr)
	}
}

// witness tells everybody who connects by which address he is known.
func (w *world) witness(p answerer) {
	w.Helper()
	for _, addr := range p.Addresses() {
		var l net.Listener
		err := p.Inside(func() (err error) {
			l, err = new(net.ListenConfig).Listen(w.ctx, "tcp", net.JoinHostPort(addr.String(), witnessPort))
			return err
		})
		if err != nil {
			w.Fatal(err)
		}
		w.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(c, c.RemoteAddr().String())
				_ = c.Close()
			}
		}()
	}
}

// known gives the address by which somebody is known to another.
func known(ctx context.Context, from dialler, to netip.Addr) (netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, still)
	defer cancel()
	c, err := from.Dial(ctx, "tcp", net.JoinHostPort(to.String(), witnessPort))
	if err != nil {
		return netip.Addr{}, err
	}
	defer c.Close()
	if err := c.SetReadDeadline(time.Now().Add(still)); err != nil {
		return netip.Addr{}, err
	}
	text, err := io.ReadAll(c)
	if err != nil {
		return netip.Addr{}, err
	}
	at, err := netip.ParseAddrPort(string(text))
	return at.Addr(), err
}

// sees waits until a pod reaches each of another's addresses, and is known there by these.
func (w *world) sees(from dialler, to lab.Addressed, as []netip.Addr) {
	w.Helper()
	for i, want := range as {
		addr := to.Addresses()[i]
		w.until(fmt.Sprintf("%s answers, and knows who asks as %s", addr, want), func(ctx context.Context) error {
			have, err := known(ctx, from, addr)
			if err == nil && have != want {
				err = fmt.Errorf("have %s", have)
			}
			return err
		})
	}
}

// ignores wants no answer from outside.
func (w *natWorld) ignores(what string, from *lab.Pod) {
	w.Helper()
	for _, addr := range w.outside.Addresses()[:len(from.Addresses())] {
		if at, err := known(w.limit(), from, addr); err == nil {
			w.Errorf("%s: %s reaches %s as %s", what, from.Name, addr, at)
		}
	}
}
