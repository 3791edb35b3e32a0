// SPDX-License-Identifier: Apache-2.0

package revocation_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"korat/bgp"
	"korat/felix/revocation"
)

// closedHost lets nothing to and from the host.
const closedHost = "apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {name: every}\nspec: {node: here, interfaceName: '*'}\n---\n"

// TestHostConnections closes a host with all that it has: what a policy forbids is cut, but for failsafe ports and what
// the agent itself needs.
func TestHostConnections(t *testing.T) {
	const (
		// Of failsafe ports, and one of them as a connection is seen that is older than the connection tracking.
		ssh     = "tcp 198.51.100.7:40000 192.0.2.1:22"
		sshBack = "tcp 192.0.2.1:22 198.51.100.7:40000"
		etcd    = "tcp 192.0.2.1:40000 192.0.2.9:2379"
		dns     = "udp 192.0.2.1:40000 192.0.2.9:53"
		// The agent's own.
		odd     = "tcp 192.0.2.1:40000 192.0.2.9:12379"
		oddBack = "tcp 192.0.2.9:12379 192.0.2.1:40000"
		service = "tcp 192.0.2.1:40000 10.96.0.1:443 192.0.2.8:6666"
		served  = "tcp 192.0.2.2:40000 192.0.2.1:22379"
		begun   = "tcp 192.0.2.1:40000 192.0.2.2:179"
		taken   = "tcp 192.0.2.2:40000 192.0.2.1:1179"
		// What is not.
		web      = "tcp 198.51.100.7:40000 192.0.2.1:80"
		out      = "tcp 192.0.2.1:40000 198.51.100.7:80"
		another  = "tcp 192.0.2.1:40000 192.0.2.8:12379"
		stranger = "tcp 198.51.100.7:40000 192.0.2.1:1179"
		datagram = "udp 192.0.2.1:40000 192.0.2.9:12379"
		answer   = "udp 192.0.2.9:53 192.0.2.1:40000"
		fromPod  = "tcp 10.0.0.1:40000 192.0.2.1:22"
	)
	lifelines := append(revocation.Sessions(bgp.Plan{
		Global: bgp.Global{ListenPort: 1179}, Peers: map[netip.Addr]bgp.Peer{netip.MustParseAddr("192.0.2.2"): {}},
	}), []revocation.Lifeline{
		{Peer: netip.MustParseAddr("192.0.2.9"), PeerPort: 12379}, {Peer: netip.MustParseAddr("10.96.0.1"), PeerPort: 443}, {OwnPort: 22379}, {},
	}...)
	own := []string{odd, oddBack, service, served, begun, taken}
	others := []string{web, out, another, stranger, datagram, answer}
	for name, c := range map[string]struct {
		manifests   string
		flows, want []string
	}{
		"failsafe ports": {closedHost, []string{ssh, sshBack, etcd, dns}, []string{ssh, sshBack, etcd, dns}},
		"no failsafe ports": {
			closedHost + "apiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata: {name: default}\n" +
				"spec: {failsafeInboundHostPorts: [], failsafeOutboundHostPorts: []}\n",
			slices.Concat([]string{ssh, sshBack, etcd, dns}, own, others), own,
		},
		"failsafe ports for some": {
			closedHost + "apiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata: {name: default}\n" +
				"spec: {failsafeInboundHostPorts: [{protocol: TCP, port: 22, net: 198.51.100.0/24}], failsafeOutboundHostPorts: []}\n",
			[]string{ssh, sshBack, etcd, "tcp 203.0.113.1:40000 192.0.2.1:22"},
			[]string{ssh, sshBack},
		},
		"the agent's own": {closedHost, own, own},
		// What could begin the other way round is kept, and marked.
		"everything else":  {closedHost, others, []string{answer + " revoked"}},
		"no host endpoint": {"", slices.Concat(own, others), slices.Concat(own, others)},
		"a pod's to a failsafe port": {
			closedHost + network("p", "  selector: role == 'server'\n  types: [Egress]\n"),
			[]string{fromPod},
			[]string{fromPod + " revoked"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			within(t, c.flows, func(s *site) {
				s.T, s.lifelines = t, lifelines
				s.apply(c.manifests)
				s.want(s.round(), c.want...)
			})
		})
	}
}

// TestSessions has both ends' ports, each of which is BGP's own unless it is said.
func TestSessions(t *testing.T) {
	plan := bgp.Plan{Peers: map[netip.Addr]bgp.Peer{
		netip.MustParseAddr("192.0.2.2"): {}, netip.MustParseAddr("fd00::2"): {Port: 1790},
	}}
	all := strings.Split(strings.Trim(fmt.Sprint(revocation.Sessions(plan)), "[{}]"), "} {")
	slices.Sort(all)
	if have, want := strings.Join(all, ", "), "192.0.2.2 179 179, fd00::2 1790 179"; have != want {
		t.Errorf("have %s, want %s", have, want)
	}
}
