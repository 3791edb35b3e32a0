// SPDX-License-Identifier: Apache-2.0

package revocation_test

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"korat/api"
	"korat/felix/calc"
	"korat/felix/dataplane"
	"korat/felix/kernel"
	"korat/felix/revocation"
	"korat/felix/revocation/revocationtest"
	"korat/policy"
	"korat/policy/compile"
)

// flow reads "tcp 10.0.0.1:40000 10.0.0.2:80", with another last word if the one that is called is not the one that
// answers: "udp 10.0.0.1:5000 10.96.0.1:53 10.0.0.2:5353". "revoked" stands last, and "icmp A B" has no ports.
func flow(text string) kernel.Flow {
	text, revoked := strings.CutSuffix(text, " revoked")
	words := strings.Fields(text)
	numbers := map[string]policy.Protocol{"tcp": policy.TCP, "udp": policy.UDP, "icmp": policy.ICMP}
	f := kernel.Flow{Protocol: numbers[words[0]]}
	at := func(word string) netip.AddrPort {
		if f.Protocol == policy.ICMP {
			return netip.AddrPortFrom(netip.MustParseAddr(word), 0)
		}
		return netip.MustParseAddrPort(word)
	}
	from, to := at(words[1]), at(words[2])
	answers := to
	if len(words) > 3 {
		answers = at(words[3])
		f.Status |= kernel.FlowDestinationNAT
	}
	f.Original = kernel.Tuple{Source: from.Addr(), SourcePort: from.Port(), Destination: to.Addr(), DestinationPort: to.Port()}
	f.Reply = kernel.Tuple{Source: answers.Addr(), SourcePort: answers.Port(), Destination: from.Addr(), DestinationPort: from.Port()}
	if f.Protocol == policy.ICMP {
		f.Original.ICMP, f.Reply.ICMP = kernel.ICMP{Type: 8, ID: 7}, kernel.ICMP{Type: 0, ID: 7}
	}
	if revoked {
		f.Mark = compile.RevokedMark | 7
	}
	return f
}

// text is what flow reads.
func text(f kernel.Flow) string {
	at := func(a netip.Addr, port uint16) string {
		if f.Protocol == policy.ICMP {
			return a.String()
		}
		return netip.AddrPortFrom(a, port).String()
	}
	words := []string{
		map[policy.Protocol]string{policy.TCP: "tcp", policy.UDP: "udp", policy.ICMP: "icmp"}[f.Protocol],
		at(f.Original.Source, f.Original.SourcePort), at(f.Original.Destination, f.Original.DestinationPort),
	}
	if f.Status&kernel.FlowDestinationNAT != 0 {
		words = append(words, at(f.Reply.Source, f.Reply.SourcePort))
	}
	if f.Mark&compile.RevokedMask == compile.RevokedMark {
		words = append(words, "revoked")
	}
	return strings.Join(words, " ")
}

// site is a node with a calculation of its own, and a Revoker.
type site struct {
	*testing.T
	conntrack *revocationtest.Conntrack
	filter    *calc.Filter
	snap      api.Snapshot
	pods      []*api.WorkloadEndpoint
	revoker   *revocation.Revoker
	owed      revocation.Owed
	lifelines []revocation.Lifeline
}

// The pods are server 10.0.0.1 and client 10.0.0.2 on this node, and 10.0.1.1 far away, which is a client too. The
// node has 192.0.2.1.
func newSite(t *testing.T, flows ...string) *site {
	s := &site{
		T: t, conntrack: &revocationtest.Conntrack{}, filter: calc.NewFilter("here"),
		owed: revocation.Owed{Affected: compile.Affected{All: true}},
	}
	s.revoker = revocation.New(s.conntrack, slog.New(slog.NewTextHandler(t.Output(), nil)))
	for _, text := range flows {
		s.conntrack.Add(flow(text))
	}
	s.pods = []*api.WorkloadEndpoint{pod("here", "server", "10.0.0.1/32", "fd00::1/128"), pod("here", "client", "10.0.0.2/32", "fd00::2/128")}
	s.filter.Families(api.Families())
	s.filter.Own(s.snap, s.pods)
	s.plant(pod("far", "client", "10.0.1.1/32"))
	return s
}

func pod(node, role string, addresses ...string) *api.WorkloadEndpoint {
	w := &api.WorkloadEndpoint{}
	w.Namespace, w.Name = "ns", node+"-k8s-"+role+"-eth0"
	w.Labels = map[string]string{"role": role}
	w.Spec.Node, w.Spec.Pod, w.Spec.Orchestrator, w.Spec.Endpoint = node, role, "k8s", "eth0"
	w.Spec.InterfaceName = "cali" + role
	w.Spec.IPNetworks = addresses
	if role == "server" {
		w.Spec.MAC = "02:00:00:00:00:01"
	}
	return w
}

// plant puts objects into the datastore.
func (s *site) plant(objs ...api.Object) {
	s.Helper()
	changed := map[api.Key]struct{}{}
	for _, obj := range objs {
		s.snap = s.snap.With(obj)
		changed[obj.Key()] = struct{}{}
	}
	s.filter.Changed(s.snap, changed)
}

func (s *site) apply(manifests string) {
	s.Helper()
	objs, err := api.Decode([]byte(manifests))
	if err != nil {
		s.Fatal(err)
	}
	for _, obj := range objs {
		api.Default(obj)
		if err := api.Validate(obj); err != nil {
			s.Fatal(err)
		}
	}
	s.plant(objs...)
}

func (s *site) remove(key api.Key) {
	s.snap = s.snap.Without(key)
	s.filter.Changed(s.snap, map[api.Key]struct{}{key: {}})
}

// host is what the kernel says of the node.
func (s *site) host() dataplane.Host {
	return dataplane.Host{Links: map[string]dataplane.HostLink{
		"lo":   {Addresses: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")}},
		"eth0": {Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}},
	}}
}

// job is what the loop gives.
func (s *site) job() revocation.Job {
	s.filter.Host(s.host(), 1)
	s.filter.Update()
	s.owed.Affected.Merge(s.filter.TakeAffected())
	s.owed.Merge(s.revoker.TakeUndone())
	j := revocation.Job{
		Owed: s.owed, Node: "here", Pods: s.filter.Pods(), Hosts: s.filter.Hosts(), Rules: s.filter.Rules(), Host: s.host(), Snapshot: s.snap,
		Lifelines: s.lifelines,
	}
	j.Adopt(j.Pods)
	s.owed = revocation.Owed{}
	return j
}

// round has what is owed done, and gives the flows that there are then.
func (s *site) round() string {
	s.Helper()
	s.revoker.Give(s.job())
	<-s.revoker.Wake()
	return s.flows()
}

func (s *site) flows() string {
	var b strings.Builder
	for _, f := range s.conntrack.Flows() {
		b.WriteString(text(f) + "\n")
	}
	return b.String()
}

// want compares the flows.
func (s *site) want(have string, lines ...string) {
	s.Helper()
	want := ""
	for _, line := range lines {
		want += line + "\n"
	}
	if diff := cmp.Diff(want, have); diff != "" {
		s.Errorf("have (+) is not want (-):\n%s", diff)
	}
}

// within runs a site's Revoker in a bubble, where its rests cost nothing.
func within(t *testing.T, flows []string, test func(*site)) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, flows...)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { s.revoker.Run(ctx); close(ended) }()
		test(s)
		cancel()
		<-ended
	})
}
