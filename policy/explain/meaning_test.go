// SPDX-License-Identifier: Apache-2.0

package explain_test

import (
	"cmp"
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"korat/api"
	"korat/policy"
	"korat/policy/chain"
	"korat/policy/compile"
	"korat/policy/explain"
	"korat/policy/policytest"
)

// world has the pods and the host that the cases are about. A pod's IPv6 address ends as its IPv4 one.
const world = `
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: n1}
spec: {bgp: {ipv4Address: 192.0.2.1/24, ipv6Address: "fd02::1/64"}}
---
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {name: web, namespace: a, labels: {app: web}}
spec: {node: n1, pod: web, endpoint: eth0, interfaceName: cali1, serviceAccountName: bot, ipNetworks: [10.0.0.1/32, "fd00::1/128"], ports: [{name: http, protocol: TCP, port: 8080}, {name: dns, protocol: UDP, port: 53}]}
---
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {name: db, namespace: a, labels: {app: db}}
spec: {node: n1, pod: db, endpoint: eth0, interfaceName: cali2, ipNetworks: [10.0.0.2/32, "fd00::2/128"], ports: [{name: http, protocol: TCP, port: 9090}]}
---
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {name: far, namespace: b, labels: {app: web}}
spec: {node: n1, pod: far, endpoint: eth0, interfaceName: cali3, serviceAccountName: bot, ipNetworks: [10.0.0.3/32, "fd00::3/128"]}
`

// TestMeaning has what policies mean, as Calico's and Kubernetes' documentation tells it, written by hand: each flow of
// each file in testdata/meaning is allowed or denied, both by this package and by the chains. A line of flows is
// "allowed web > db tcp 80": an end is a pod of the world, "node" or an address, and with /6 after one the flow is IPv6; what follows the
// protocol is the destination port, or type/code of ICMP, and then the source port [40000]. A dot is the verdict of the line before.
func TestMeaning(t *testing.T) {
	files, err := filepath.Glob("testdata/meaning/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil || len(archive.Files)%2 != 0 {
			t.Fatalf("%s: %v, %d parts", file, err, len(archive.Files))
		}
		for i := 0; i < len(archive.Files); i += 2 {
			manifests, flows := archive.Files[i], archive.Files[i+1]
			t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar")+"/"+manifests.Name, func(t *testing.T) {
				objs := policytest.Objects(t, []byte(world+"---\n"+string(manifests.Data)))
				m := newMeaning(t, objs)
				for line := range strings.Lines(string(flows.Data)) {
					m.check(strings.Fields(line))
				}
			})
		}
	}
}

// meaning is the same policies for both.
type meaning struct {
	t       *testing.T
	world   *explain.World
	machine *policytest.Machine
	verdict string
}

func newMeaning(t *testing.T, objs []api.Object) *meaning {
	t.Helper()
	snap := api.Snapshot{InSync: true}
	o := compile.Options{Families: api.Families()}
	var told []api.Object
	for _, obj := range objs {
		snap = snap.With(obj)
		switch obj := obj.(type) {
		case *api.Node:
		case *api.FelixConfiguration:
			o.ToHost = map[string]compile.ToHost{api.FelixDrop: compile.ToHostDrop}[obj.Spec.DefaultEndpointToHostAction]
		default:
			told = append(told, obj)
		}
	}
	w, err := explain.Of(snap)
	if err != nil {
		t.Fatal(err)
	}
	o.FailsafeIn = []compile.Failsafe{{Protocol: policy.TCP, Port: 22}}
	c := compile.New(o)
	policytest.Feed(t, c, told)
	c.Update()
	m := policytest.NewMachine(t, c)
	m.Local = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("fd02::1")}
	return &meaning{t: t, world: w, machine: m}
}

// check compares both verdicts with the one that a line wants.
func (m *meaning) check(words []string) {
	m.t.Helper()
	if len(words) < 5 {
		m.t.Fatalf("%q is no flow", words)
	}
	if words[0] != "." {
		m.verdict = words[0]
	}
	six := strings.Contains(words[1]+words[3], "/6")
	f := explain.Flow{
		From: m.end(words[1], six), To: m.end(words[3], six), SourcePort: 40000, Leaves: "eth0", Enters: "eth0",
		Protocol: policy.Protocol(api.Protocol(map[string]string{"icmp6": "ICMPv6"}[words[4]]).Number()),
	}
	if f.Protocol == 0 {
		f.Protocol = policy.Protocol(api.Protocol(strings.ToUpper(words[4])).Number())
	}
	if len(words) > 5 {
		kind, code, isICMP := strings.Cut(words[5], "/")
		n, port := number(m.t, cmp.Or(code, "0")), number(m.t, kind)
		if isICMP {
			f.ICMP, f.SourcePort = policy.ICMPType{Type: uint8(port), Code: int16(n)}, 0
		} else {
			f.DestinationPort = uint16(port)
		}
	}
	if len(words) > 6 {
		f.SourcePort = uint16(number(m.t, words[6]))
	}
	said := map[bool]string{true: "allowed", false: "denied"}
	v := m.world.Explain(f)
	if said[v.Allowed] != m.verdict {
		m.t.Errorf("%q: want %s, explain says %s", words, m.verdict, told(v))
	}
	m.machine.Trail = nil
	if fate := m.pass(f); said[fate != policytest.Dropped] != m.verdict {
		m.t.Errorf("%q: want %s, the chains say\n%s", words, m.verdict, strings.Join(m.machine.Trail, "\n"))
	}
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (m *meaning) end(word string, six bool) explain.End {
	m.t.Helper()
	name := strings.TrimSuffix(word, "/6")
	for i, pod := range []string{"web", "db", "far"} {
		if name == pod {
			addr := fmt.Sprintf("10.0.0.%d", i+1)
			if six {
				addr = fmt.Sprintf("fd00::%d", i+1)
			}
			return m.world.Resolve(netip.MustParseAddr(addr))
		}
	}
	if name == "node" {
		name = map[bool]string{false: "192.0.2.1", true: "fd02::1"}[six]
	}
	return m.world.Resolve(netip.MustParseAddr(name))
}

// pass sends the packet through the hooks of n1, which has eth0 to everybody else.
func (m *meaning) pass(f explain.Flow) policytest.Fate {
	p := &policytest.Packet{
		In: f.From.Interface, Out: f.To.Interface, Source: f.From.Address, Destination: f.To.Address, Protocol: f.Protocol,
		SourcePort: f.SourcePort, DestinationPort: f.DestinationPort, ICMP: f.ICMP,
	}
	if f.From.Node == "" {
		p.In = "eth0"
	}
	if f.To.Node == "" {
		p.Out = "eth0"
	}
	hooks := []policytest.Hook{{Table: chain.Raw, Name: "PREROUTING"}, {Table: chain.Mangle, Name: "PREROUTING"}}
	switch {
	case p.In == "":
		hooks = []policytest.Hook{{Table: chain.Raw, Name: "OUTPUT"}, {Table: chain.Filter, Name: "OUTPUT"}, {Table: chain.Mangle, Name: "POSTROUTING"}}
	case p.Out == "":
		hooks = append(hooks, policytest.Hook{Table: chain.Filter, Name: "INPUT"})
	default:
		hooks = append(hooks, policytest.Hook{Table: chain.Filter, Name: "FORWARD"})
	}
	return m.machine.Through(p, hooks...)
}
