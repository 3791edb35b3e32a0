// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"korat/test/lab"
)

const (
	// nothingSafe leaves no port open by itself, and bothClosed closes both hosts.
	nothingSafe = `
apiVersion: projectcalico.org/v3
kind: FelixConfiguration
metadata: {name: default}
spec: {failsafeInboundHostPorts: [], failsafeOutboundHostPorts: []}
`
	bothClosed = `
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: a-all, labels: {role: host}}
spec: {node: a, interfaceName: '*'}
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: b-all, labels: {role: host}}
spec: {node: b, interfaceName: '*'}
`
	// onlyUDP opens them a little.
	onlyUDP = `
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: only-udp}
spec:
  selector: role == 'host'
  types: [Ingress, Egress]
  ingress: [{action: Allow, protocol: UDP}]
  egress: [{action: Allow, protocol: UDP}]
`
)

// TestHostConnectionsAreCut closes two hosts with all that they have, without failsafe ports: what they have open is cut,
// and of the agents' own nothing, the datastore's server's neither. So they hear of it when it is mended.
func TestHostConnectionsAreCut(t *testing.T) {
	w := clusterOf(t, lab.Dual, 2)
	a, b := w.host("a"), w.host("b")
	w.echoes(b)
	all := w.streamsTo(a, "a to b", b.Addresses())
	w.going(all...)
	w.koratctl(a, "apply", nothingSafe+"---"+onlyUDP)
	w.koratctl(a, "apply", bothClosed)
	tcp, udp := all[:2], all[2:]
	w.cut(tcp...)
	w.whole(udp...)
	w.koratctl(a, "delete", onlyUDP)
	w.cut(all...)
	// Each of these changes has come to both by connections that are older.
	w.koratctl(a, "apply", onlyUDP)
	w.going(udp...)
	w.meshed(a, b)
	w.flapped(b, 0, a)
	w.koratctl(a, "delete", bothClosed)
	w.going(all...) // what is allowed again goes on where it was
	for _, h := range w.Hosts() {
		w.until("the host endpoints of "+h.Name+" are gone", func(ctx context.Context) error {
			saved, err := h.Exec(ctx, "iptables-save")
			if err == nil && strings.Contains(saved, "host-endpoint") {
				err = fmt.Errorf("they are not:\n%s", saved)
			}
			return err
		})
	}
	w.meshed(a, b)
	w.flapped(b, 0, a)
}

// services are addresses that kube-proxy's kind of rules give to a pod.
func services() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd00:96::10")}
}

const notToServer = `
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: not-to-server}
spec:
  selector: role == 'friend'
  types: [Egress]
  egress:
  - {action: Deny, destination: {selector: role == 'server'}}
  - {action: Allow}
`

// TestServiceFlowsAreCut has flows to a service, which the node of who calls it translates: with their sender's address, and
// with the node's in its place. The policies of either end cut them.
func TestServiceFlowsAreCut(t *testing.T) {
	w := clusterOf(t, lab.Dual, 2)
	a, b := w.host("a"), w.host("b")
	server, other := w.labelled(a, "server", "server"), w.labelled(a, "other", "other")
	w.echoes(server)
	w.echoes(other)
	for _, h := range w.Hosts() {
		for i, program := range []string{"iptables", "ip6tables"} {
			w.commands(h, fmt.Sprintf("%[1]s -t nat -A PREROUTING -d %[2]s -j DNAT --to-destination %[3]s", program, services()[i], server.Addresses()[i]))
		}
	}
	friend, far := w.labelled(a, "friend", "friend"), w.labelled(b, "far", "friend")
	foe, distant := w.labelled(a, "foe", "foe"), w.labelled(b, "distant", "foe")
	to := func(pods ...*lab.Pod) (all []*stream) {
		for _, p := range pods {
			all = append(all, w.streamsTo(p, p.Name+" to the service", services())...)
		}
		return all
	}
	friends, foes := to(friend, far), to(foe, distant)
	elsewhere := slices.Concat(w.streams(foe, other), w.streams(distant, other), w.streams(friend, other), w.streams(far, other))
	w.going(slices.Concat(friends, foes, elsewhere)...)

	w.koratctl(a, "apply", onlyFriends) // the server's own
	w.cut(foes...)
	w.whole(slices.Concat(friends, elsewhere)...)
	w.koratctl(a, "delete", onlyFriends)
	w.going(foes...)

	w.koratctl(a, "apply", notToServer) // those who call
	w.cut(friends...)
	w.going(foes...)
	w.whole(elsewhere...)
	w.koratctl(a, "delete", notToServer)
	w.going(friends...)

	// With the node's address in the place of the sender's, the server's node knows no friend.
	for i, program := range []string{"iptables", "ip6tables"} {
		w.commands(b, fmt.Sprintf("%s -t nat -A POSTROUTING -d %s -m conntrack --ctstate DNAT -j MASQUERADE", program, server.Addresses()[i]))
	}
	masked := to(w.labelled(b, "masked", "friend"))
	w.going(masked...)
	w.koratctl(a, "apply", onlyFriends)
	w.cut(append(masked, foes...)...)
	w.whole(elsewhere...)
	w.going(friends...)
}
