// SPDX-License-Identifier: Apache-2.0

package revocation_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"korat/api"
	"korat/felix/kernel"
	"korat/policy"
	"korat/policy/compile"
)

func network(name, spec string) string {
	return "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: " + name + ", namespace: ns}\nspec:\n" + spec + "---\n"
}

func global(name, spec string) string {
	return "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: " + name + "}\nspec:\n" + spec + "---\n"
}

// TestVerdicts has the flows of a node judged once, as at the agent's start.
func TestVerdicts(t *testing.T) {
	const (
		near    = "tcp 10.0.0.2:40000 10.0.0.1:80"
		far     = "tcp 10.0.1.1:40000 10.0.0.1:80"
		back    = "tcp 10.0.0.1:40000 10.0.0.2:80"
		service = "udp 10.0.0.2:5000 10.96.0.1:53 10.0.0.1:5353"
		ping    = "icmp 10.0.0.2 10.0.0.1"
		six     = "tcp [fd00::2]:40000 [fd00::1]:80"
		host    = "tcp 192.0.2.1:40000 10.0.0.1:80"
		toHost  = "udp 10.0.0.1:40000 192.0.2.1:53"
		link    = "udp [fe80::ff:fe00:1]:40000 [fe80::1]:53"
		others  = "tcp 10.9.0.1:40000 10.9.0.2:80"
		ssh     = "tcp 198.51.100.7:40000 192.0.2.1:22"
		web     = "tcp 198.51.100.7:40000 192.0.2.1:80"
	)
	server := "  selector: role == 'server'\n"
	for name, c := range map[string]struct {
		manifests string
		flows     []string
		want      []string
	}{
		"without policies": {
			flows: []string{near, far, service, ping, six, host, toHost, link, others},
			want:  []string{near, far, service, ping, six, host, toHost, link, others},
		},
		"the server lets in those from far away": {
			manifests: network("server", server+"  types: [Ingress]\n  ingress: [{action: Allow, source: {nets: [10.0.1.0/24]}}]\n"),
			flows:     []string{near, far, back, service, ping, six, host, toHost, others},
			want:      []string{near + " revoked", far, back, service + " revoked", six + " revoked", host, toHost, others},
		},
		"the server may not answer either": {
			manifests: network("server", server+"  types: [Ingress, Egress]\n"),
			flows:     []string{near, far, back, service, ping, six, host, toHost},
			// The host could begin what the server may not.
			want: []string{host, toHost + " revoked"},
		},
		"what was revoked": {
			manifests: network("server", server+"  types: [Ingress]\n  ingress: [{action: Allow, source: {nets: [10.0.1.0/24]}}]\n"),
			flows:     []string{near + " revoked", far + " revoked"},
			want:      []string{near + " revoked", far}, // what is allowed goes on
		},
		"a pod that is known by its labels": {
			manifests: network("server", server+"  types: [Ingress]\n  ingress: [{action: Deny, source: {selector: role == 'client'}}, {action: Allow}]\n"),
			flows:     []string{near, far, six, "tcp 10.0.1.9:40000 10.0.0.1:80"},
			want:      []string{near + " revoked", far + " revoked", six + " revoked", "tcp 10.0.1.9:40000 10.0.0.1:80"},
		},
		"network sets": {
			manifests: network("server", server+"  types: [Ingress]\n  ingress: [{action: Allow, source: {selector: set == 'x'}}]\n") +
				"apiVersion: projectcalico.org/v3\nkind: NetworkSet\nmetadata: {name: x, namespace: ns, labels: {set: x}}\nspec: {nets: [10.9.0.0/30, 198.51.100.7/32]}\n---\n" +
				"apiVersion: projectcalico.org/v3\nkind: NetworkSet\nmetadata: {name: x, namespace: other, labels: {set: x}}\nspec: {nets: [10.8.0.0/16]}\n",
			flows: []string{"tcp 10.9.0.1:40000 10.0.0.1:80", "tcp 10.9.0.4:40000 10.0.0.1:80", "tcp 198.51.100.7:40000 10.0.0.1:80", "tcp 10.8.0.1:40000 10.0.0.1:80"},
			want:  []string{"tcp 10.9.0.1:40000 10.0.0.1:80", "tcp 10.9.0.4:40000 10.0.0.1:80 revoked", "tcp 198.51.100.7:40000 10.0.0.1:80", "tcp 10.8.0.1:40000 10.0.0.1:80 revoked"},
		},
		"labels of the namespace": {
			manifests: network("server", server+"  types: [Ingress]\n  ingress: [{action: Allow, source: {namespaceSelector: team == 'a'}}]\n") +
				"apiVersion: projectcalico.org/v3\nkind: Profile\nmetadata: {name: kns.ns}\nspec: {labelsToApply: {pcns.team: a}, egress: [{action: Allow}]}\n",
			flows: []string{near, far, "tcp 10.9.0.1:40000 10.0.0.1:80"},
			want:  []string{near, far, "tcp 10.9.0.1:40000 10.0.0.1:80 revoked"},
		},
		"source ports": {
			manifests: network("server", server+"  types: [Ingress]\n  ingress: [{action: Allow, protocol: TCP, source: {ports: [40000]}}]\n"),
			flows:     []string{near, "tcp 10.0.0.2:40001 10.0.0.1:80"},
			want:      []string{near, "tcp 10.0.0.2:40001 10.0.0.1:80 revoked"},
		},
		"pods may not speak to their host": {
			manifests: "apiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata: {name: default}\nspec: {defaultEndpointToHostAction: Drop}\n",
			flows:     []string{toHost, host, near},
			want:      []string{toHost + " revoked", host, near},
		},
		"what a pod sends from its link-local address": {
			manifests: network("server", server+"  types: [Egress]\n"), flows: []string{link}, want: []string{link + " revoked"},
		},
		"staged policies": {
			manifests: strings.ReplaceAll(network("server", server+"  types: [Ingress]\n"), "NetworkPolicy", "StagedNetworkPolicy"),
			flows:     []string{near}, want: []string{near},
		},
		"the host itself without host endpoints": {
			manifests: global("host", "  selector: all()\n  types: [Ingress]\n"), flows: []string{ssh, web}, want: []string{ssh, web},
		},
		"the host itself": {
			manifests: global("host", "  selector: has(hosts)\n  types: [Ingress, Egress]\n") +
				"apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {name: eth0, labels: {hosts: 'y'}}\nspec: {node: here, interfaceName: eth0}\n",
			flows: []string{ssh, web, near, others, far}, want: []string{ssh, near, others, far}, // SSH is failsafe
		},
		"what the host forwards": {
			manifests: global("forwarded", "  selector: has(hosts)\n  applyOnForward: true\n  types: [Ingress]\n") +
				"apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {name: every, labels: {hosts: 'y'}}\nspec: {node: here, interfaceName: '*'}\n",
			flows: []string{near, far}, want: []string{near, far + " revoked"},
		},
		"policies that see the service's address": {
			manifests: global("early", "  selector: has(hosts)\n  preDNAT: true\n  applyOnForward: true\n  types: [Ingress]\n  ingress: [{action: Deny, destination: {nets: [10.0.0.0/16]}}]\n") +
				"apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {name: every, labels: {hosts: 'y'}}\nspec: {node: here, interfaceName: '*'}\n",
			flows: []string{far, "tcp 10.0.1.1:40000 10.96.0.1:80 10.0.0.1:8080"},
			want:  []string{far + " revoked", "tcp 10.0.1.1:40000 10.96.0.1:80 10.0.0.1:8080"},
		},
		"policies that see the service's address do not speak for those of pods": {
			manifests: global("early", "  selector: has(hosts)\n  preDNAT: true\n  applyOnForward: true\n  types: [Ingress]\n  ingress: [{action: Deny, destination: {nets: [10.0.0.0/16]}}]\n") +
				"apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {name: every, labels: {hosts: 'y'}}\nspec: {node: here, interfaceName: '*'}\n---\n" +
				network("client", "  selector: role == 'client'\n  types: [Egress]\n  egress: [{action: Allow, protocol: UDP, destination: {ports: [5353]}}]\n") +
				network("server", server+"  types: [Ingress]\n  ingress: [{action: Allow, protocol: UDP}, {action: Allow, source: {nets: [10.0.1.1/32]}}]\n"),
			flows: []string{service, "udp 10.0.0.2:5000 10.96.0.1:53 10.0.0.1:53", "tcp 10.0.1.1:40000 10.96.0.1:80 10.0.0.1:8080", "tcp 10.0.1.2:40000 10.96.0.1:80 10.0.0.1:8080"},
			want:  []string{service, "udp 10.0.0.2:5000 10.96.0.1:53 10.0.0.1:53 revoked", "tcp 10.0.1.1:40000 10.96.0.1:80 10.0.0.1:8080", "tcp 10.0.1.2:40000 10.96.0.1:80 10.0.0.1:8080 revoked"},
		},
		"a service's flows by who really answers": {
			manifests: network("server", server+"  types: [Ingress]\n  ingress: [{action: Allow, protocol: UDP, destination: {ports: [5353]}}]\n"),
			flows:     []string{service, "udp 10.0.0.2:5000 10.96.0.1:53 10.0.0.1:53", "tcp 10.0.0.2:5000 10.96.0.1:80 10.9.0.1:80"},
			want:      []string{service, "udp 10.0.0.2:5000 10.96.0.1:53 10.0.0.1:53 revoked", "tcp 10.0.0.2:5000 10.96.0.1:80 10.9.0.1:80"},
		},
		"who calls a service may not": {
			manifests: network("client", "  selector: role == 'client'\n  types: [Egress]\n  egress: [{action: Deny, destination: {selector: role == 'server'}}, {action: Allow}]\n"),
			flows:     []string{service, "udp 10.0.0.2:5000 10.96.0.1:53 10.9.0.1:53"},
			want:      []string{service + " revoked", "udp 10.0.0.2:5000 10.96.0.1:53 10.9.0.1:53"},
		},
		"what is no longer tracked": {
			manifests: global("untracked", "  selector: has(hosts)\n  doNotTrack: true\n  applyOnForward: true\n  types: [Ingress, Egress]\n"+
				"  ingress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}]\n  egress: [{action: Allow, protocol: TCP, source: {ports: [80]}}]\n") +
				"apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {name: every, labels: {hosts: 'y'}}\nspec: {node: here, interfaceName: '*'}\n",
			flows: []string{web, "tcp 198.51.100.7:40000 192.0.2.1:81"}, want: []string{web},
		},
	} {
		t.Run(name, func(t *testing.T) {
			within(t, c.flows, func(s *site) {
				s.T = t
				s.apply(c.manifests)
				s.want(s.round(), c.want...)
				if st := s.revoker.Status(); st.Err != nil || s.revoker.Standing() != strings.Contains(s.flows(), "revoked") {
					t.Errorf("status %+v, standing %t", st, s.revoker.Standing())
				}
			})
		})
	}
}

// TestLittleIsRead wants no more of the kernel's flows to be read than what has changed may concern.
func TestLittleIsRead(t *testing.T) {
	const near, far = "tcp 10.0.0.2:40000 10.0.0.1:80", "tcp 10.0.1.1:40000 10.0.0.1:80"
	within(t, []string{near, far}, func(s *site) {
		s.apply(network("server", "  selector: role == 'server'\n  types: [Ingress]\n  ingress: [{action: Allow, source: {selector: role == 'client'}}]\n"))
		s.want(s.round(), near, far)
		asked := func(want string) {
			t.Helper()
			if have := fmt.Sprint(s.conntrack.Asked()); have != want {
				t.Errorf("asked for %s, want %s", have, want)
			}
		}
		asked("[10.0.0.1 10.0.0.2 fd00::1 fd00::2 fe80::ff:fe00:1]")

		// A pod of another node is a client no more.
		s.plant(pod("far", "stranger", "10.0.1.1/32"), pod("far", "client", "10.0.1.2/32"))
		s.want(s.round(), near, far+" revoked")
		asked("[10.0.1.1]")

		// One more client takes nothing from anybody, but one that was revoked may be among them.
		s.plant(pod("far", "client", "10.0.1.2/32", "10.0.1.1/32"))
		s.want(s.round(), near, far)
		asked("[10.0.1.1]")

		// The rules of the server change.
		s.apply(network("server", "  selector: role == 'server'\n  types: [Ingress]\n  ingress: [{action: Allow, protocol: UDP}]\n"))
		s.want(s.round(), near+" revoked", far+" revoked")
		asked("[10.0.0.1 fd00::1 fe80::ff:fe00:1]")

		// A set with more addresses than one.
		s.apply(network("server", "  selector: role == 'server'\n  types: [Ingress]\n  ingress: [{action: Allow, source: {selector: has(set)}}]\n"))
		s.round()
		s.apply("apiVersion: projectcalico.org/v3\nkind: NetworkSet\nmetadata: {name: x, namespace: ns, labels: {set: x}}\nspec: {nets: [10.0.0.0/16]}\n")
		s.want(s.round(), near, far)
		asked("[10.0.0.1 10.0.0.2 fd00::1 fd00::2 fe80::ff:fe00:1]")
	})
}

// TestGone deletes the flows of pods that are gone, but not those of who has the address by now.
func TestGone(t *testing.T) {
	const (
		old    = "tcp 10.0.0.9:40000 10.9.0.1:80"
		called = "udp 10.9.0.1:40000 10.96.0.1:53 10.0.0.9:53"
		near   = "tcp 10.0.0.2:40000 10.0.0.1:80"
		denied = "tcp 10.9.0.1:40000 10.0.0.1:80"
	)
	within(t, []string{old, called, near, denied}, func(s *site) {
		s.want(s.round(), old, called, near, denied)
		s.owed.Leave(netip.MustParseAddr("10.0.0.9"))
		s.want(s.round(), near, denied)
		if n := s.revoker.Status().Cut; n != 0 {
			t.Errorf("%d flows are said to be cut", n)
		}
		s.apply(network("server", "  selector: role == 'server'\n  types: [Ingress, Egress]\n  ingress: [{action: Allow, source: {nets: [10.0.0.0/16]}}]\n"))
		s.filter.Update()
		s.filter.TakeAffected()
		s.owed.Leave(netip.MustParseAddr("10.0.0.1")) // which the server has
		s.want(s.round(), near)
	})
}

// TestAnnounced has flows that another one has announced: they pass as long as that does.
func TestAnnounced(t *testing.T) {
	within(t, nil, func(s *site) {
		for port, control := range map[uint16]uint16{5001: 21, 5002: 2121} {
			data := flow("tcp 10.0.0.1:20 10.0.0.2:80")
			data.Original.DestinationPort, data.Reply.SourcePort = port, port
			data.Master.Protocol = policy.TCP
			data.Master.Tuple = kernel.Tuple{
				Source: netip.MustParseAddr("10.0.0.2"), Destination: netip.MustParseAddr("10.0.0.1"), SourcePort: 40000, DestinationPort: control,
			}
			s.conntrack.Add(data)
		}
		s.apply(network("server", "  selector: role == 'server'\n  types: [Ingress, Egress]\n  ingress: [{action: Allow, protocol: TCP, destination: {ports: [21]}}]\n"))
		s.want(s.round(), "tcp 10.0.0.1:20 10.0.0.2:5001")
	})
}

// TestSuperseded gives a job back whose policies are old by the time that a flow would be ended, but not for ever.
func TestSuperseded(t *testing.T) {
	const near = "tcp 10.0.0.2:40000 10.0.0.1:80"
	within(t, []string{near}, func(s *site) {
		s.conntrack.Reading = s.revoker.Supersede
		deny := network("server", "  selector: role == 'server'\n  types: [Ingress]\n")
		s.apply(deny)
		s.want(s.round(), near)
		s.remove(api.Key{Kind: api.KindNetworkPolicy, Namespace: "ns", Name: "server"})
		s.want(s.round(), near)
		if left := s.revoker.TakeUndone(); !left.Empty() {
			t.Errorf("nothing is to be ended by the newer policies, and yet left: %+v", left)
		}
		s.apply(deny)
		rounds := 0
		for s.round() == near+"\n" {
			if rounds++; rounds > 10 {
				t.Fatal("it is given back for ever")
			}
		}
		s.want(s.flows(), near+" revoked")
		if left := s.revoker.TakeUndone(); !left.Empty() || rounds == 0 {
			t.Errorf("after %d rounds left: %+v", rounds, left)
		}
	})
}

// TestFailure keeps what could not be done.
func TestFailure(t *testing.T) {
	const near = "tcp 10.0.0.2:40000 10.0.0.1:80"
	within(t, []string{near}, func(s *site) {
		s.apply(network("server", "  selector: role == 'server'\n  types: [Ingress]\n"))
		s.conntrack.Failing = errors.New("no kernel")
		s.want(s.round(), near)
		if st := s.revoker.Status(); st.Err == nil || !s.revoker.Standing() {
			t.Errorf("status %+v", st)
		}
		s.conntrack.Failing = nil
		s.want(s.round(), near+" revoked")
		if st := s.revoker.Status(); st.Err != nil || st.Cut != 1 {
			t.Errorf("status %+v", st)
		}
	})
}

// TestRests walks through the connection tracking at most twice a second, however little there is in it.
func TestRests(t *testing.T) {
	within(t, []string{"tcp 10.0.0.2:40000 10.0.0.1:80"}, func(s *site) {
		began := time.Now()
		for i := range 10 {
			s.owed.Leave(netip.AddrFrom4([4]byte{10, 0, 9, byte(i)}))
			s.round()
		}
		if took := time.Since(began); took < 5*time.Second || took > 6*time.Second { // of synctest's clock
			t.Errorf("ten jobs, one after the other, took %s", took)
		}
	})
}

// TestManyFlows has more than are held at once.
func TestManyFlows(t *testing.T) {
	within(t, nil, func(s *site) {
		want := 0
		for i := range 20_000 {
			f := flow("tcp 10.0.0.2:40000 10.0.0.1:80")
			f.Original.SourcePort, f.Reply.DestinationPort = uint16(i), uint16(i)
			if i%3 == 0 {
				want++
				f.Original.Source, f.Reply.Destination = netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.9.0.1")
			}
			s.conntrack.Add(f)
		}
		s.apply(network("server", "  selector: role == 'server'\n  types: [Ingress]\n  ingress: [{action: Allow, source: {nets: [10.0.0.0/24]}}]\n"))
		s.round()
		have, all := 0, s.conntrack.Flows()
		for _, f := range all {
			if f.Mark&compile.RevokedMask == compile.RevokedMark {
				have++
			}
		}
		if have != want || len(all) != 20_000 {
			t.Errorf("%d of %d are revoked, want %d of 20000", have, len(all), want)
		}
	})
}
