// SPDX-License-Identifier: Apache-2.0

package revocation

import (
	"net/netip"
	"slices"

	"korat/felix/calc"
	"korat/felix/kernel"
	"korat/policy"
	"korat/policy/compile"
	"korat/policy/explain"
)

// verdict is what is to become of a flow.
type verdict uint8

const (
	allowed verdict = iota
	// denied flows can't be opened anew by either side.
	denied
	// reversible flows are denied, and could be opened the other way round by who answers.
	reversible
	// gone flows are of pods that are gone.
	gone
)

// judge judges flows by what a job says.
type judge struct {
	job    *Job
	memory *memory
	// pods are this node's by their addresses, and own the host's own with their interfaces.
	pods map[netip.Addr]calc.Pod
	own  map[netip.Addr]string
	// guarded says that the host's own flows are policed, and anew that policies for them have changed.
	guarded, anew bool
	// peers are addresses that sets have gained or lost, and prefixes those of more addresses than one.
	peers    map[netip.Addr]struct{}
	prefixes []netip.Prefix
	// early says that there are policies that see packets before the addresses of services become those of pods.
	early bool
	// worlds know the flows that are held; sources says that source ports matter in them. verdicts are those so far.
	worlds   worlds
	sources  bool
	verdicts map[question]bool
}

// worlds are what is known of the cluster: all of it, and pods without their host's own endpoints, if there are policies that
// see packets early.
type worlds struct{ all, pods *explain.World }

// question is all that a verdict can depend on.
type question struct {
	// pods asks for what pods' own policies say alone.
	pods                        bool
	from, to                    netip.Addr
	protocol                    policy.Protocol
	sourcePort, destinationPort uint16
	icmp                        policy.ICMPType
}

func newJudge(job *Job, m *memory, standing bool) *judge {
	j := &judge{
		job: job, memory: m, pods: make(map[netip.Addr]calc.Pod, len(job.Pods)), own: map[netip.Addr]string{},
		peers: map[netip.Addr]struct{}{}, verdicts: map[question]bool{},
	}
	for _, p := range job.Pods {
		for _, addr := range addressesOf(p) {
			j.pods[addr] = p
		}
	}
	for name, l := range job.Host.Links {
		for _, p := range l.Addresses {
			j.own[p.Addr().WithZone("")] = name
		}
	}
	j.guarded = len(job.Hosts) > 0
	j.sources = j.guarded // failsafe ports may be those of answers
	for _, h := range job.Hosts {
		_, is := job.Locals[h.ID]
		j.anew = j.anew || is
	}
	j.peer(job.Narrowed)
	if standing {
		j.peer(job.Widened)
	}
	return j
}

func (j *judge) peer(prefixes map[netip.Prefix]struct{}) {
	for p := range prefixes {
		if p.IsSingleIP() {
			j.peers[p.Addr()] = struct{}{}
		} else {
			j.prefixes = append(j.prefixes, p)
		}
	}
}

// addressesOf gives a pod's, with the link-local one that it gives itself (RFC 4291, appendix A).
func addressesOf(p calc.Pod) []netip.Addr {
	all := make([]netip.Addr, 0, len(p.Prefixes)+1)
	for _, prefix := range p.Prefixes {
		all = append(all, prefix.Addr())
	}
	if addr, ok := linkLocal(p.Object.Spec.MAC); ok {
		all = append(all, addr)
	}
	return all
}

// usesSourcePorts says whether one of the rules looks at source ports.
func usesSourcePorts(rules []policy.Rule) bool {
	return slices.ContainsFunc(rules, func(r policy.Rule) bool {
		s := &r.Source
		return len(s.Ports)+len(s.NotPorts)+len(s.NamedPorts)+len(s.NotNamedPorts) > 0
	})
}

// orphaned says whether the address is of a pod that is gone.
func (j *judge) orphaned(a netip.Addr) bool {
	_, is := j.job.Gone[a]
	return is
}

// changed says whether a set has gained or lost the address.
func (j *judge) changed(a netip.Addr) bool {
	_, is := j.peers[a]
	return is || slices.ContainsFunc(j.prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// verdict judges a flow that is known.
func (j *judge) verdict(f *kernel.Flow) verdict {
	from, to := endsOf(f)
	if j.orphaned(from) || j.orphaned(to) {
		return gone
	}
	if j.guarded && j.spares(f) {
		return allowed
	}
	// What the host's own endpoints say of it was perhaps said by a policy that saw the service's address.
	q, m := questionOf(f), announced(f)
	q.pods = j.early && f.Status&kernel.FlowDestinationNAT != 0
	m.pods = q.pods
	switch {
	case j.allows(q), f.Master.Source.IsValid() && j.allows(m):
		return allowed
	case !isICMP(f.Protocol) && j.allows(q.reversed()):
		return reversible
	}
	return denied
}

func isICMP(p policy.Protocol) bool { return p == policy.ICMP || p == policy.ICMPv6 }

// questionOf asks as the chains do. An answer of ICMP is no beginning, so that its type is that of the request.
func questionOf(f *kernel.Flow) question {
	from, to := endsOf(f)
	q := question{from: from, to: to, protocol: f.Protocol}
	if isICMP(f.Protocol) {
		q.icmp = policy.ICMPType{Type: f.Original.ICMP.Type, Code: int16(f.Original.ICMP.Code)}
		return q
	}
	q.sourcePort, q.destinationPort = f.Original.SourcePort, f.Reply.SourcePort
	return q
}

// announced asks about the flow that has announced this one: the chains let in what belongs to it.
func announced(f *kernel.Flow) question {
	m := f.Master
	return question{
		from: m.Source, to: m.Destination, protocol: m.Protocol, sourcePort: m.SourcePort, destinationPort: m.DestinationPort,
	}
}

func (q question) reversed() question {
	q.from, q.to, q.sourcePort, q.destinationPort = q.to, q.from, q.destinationPort, q.sourcePort
	return q
}

func (j *judge) allows(q question) bool {
	if !j.sources {
		q.sourcePort = 0
	}
	v, known := j.verdicts[q]
	if known {
		return v
	}
	world := j.worlds.all
	if q.pods {
		world = j.worlds.pods
	}
	v = world.Allowed(explain.Flow{
		From: j.end(q.from), To: j.end(q.to), Protocol: q.protocol,
		SourcePort: q.sourcePort, DestinationPort: q.destinationPort, ICMP: q.icmp,
		Leaves: j.own[q.from], Enters: j.own[q.to],
	})
	j.verdicts[q] = v
	return v
}

// end says what an address is to this node: what is not its own is outside, and is checked by nobody here.
func (j *judge) end(a netip.Addr) explain.End {
	if p, is := j.pods[a]; is {
		return explain.End{Node: j.job.Node, Interface: p.Object.Spec.InterfaceName, Address: a}
	}
	if _, is := j.own[a]; is {
		return explain.End{Node: j.job.Node, Address: a}
	}
	return explain.End{Address: a}
}

// know makes the World in which the flows can be judged: of the cluster it has this node's pods, and who has the
// addresses that the flows come from and go to.
func (j *judge) know(flows []kernel.Flow) {
	ends := map[netip.Addr]struct{}{}
	add := func(a netip.Addr) {
		if a.IsValid() {
			ends[a] = struct{}{}
		}
	}
	for i := range flows {
		from, to := endsOf(&flows[i])
		add(from)
		add(to)
		add(flows[i].Master.Source)
		add(flows[i].Master.Destination)
	}
	parts := j.parts(ends)
	j.worlds = worlds{all: explain.New(parts)}
	if j.early {
		parts.Endpoints = slices.DeleteFunc(slices.Clone(parts.Endpoints), func(e explain.Endpoint) bool { return e.Host })
		j.worlds.pods = explain.New(parts)
	}
	clear(j.verdicts)
}

// parts are what the World is made of.
func (j *judge) parts(ends map[netip.Addr]struct{}) explain.Parts {
	rules, node := &j.job.Rules, j.job.Node
	parts := explain.Parts{
		Tiers: rules.Tiers, Policies: rules.Policies, Doubts: rules.Doubts, Sets: j.memory.holders(j.job, ends),
		Services: services(j.job.Snapshot, rules.Policies, ends),
	}
	parts.EndpointToHost = map[compile.ToHost]string{compile.ToHostDrop: "Drop", compile.ToHostAccept: "Accept"}[rules.Options.ToHost]
	for _, p := range j.job.Pods {
		parts.Endpoints = append(parts.Endpoints, explain.Endpoint{
			Item: p.Item, Profiles: p.Profiles, Namespace: p.Object.Namespace, Name: p.Object.Name,
			Node: node, Interface: p.Object.Spec.InterfaceName,
		})
	}
	for _, h := range j.job.Hosts {
		parts.Endpoints = append(parts.Endpoints, explain.Endpoint{
			Item: h.Item, Profiles: h.Parents, Name: h.Name, Host: true, Node: node, Interface: h.Interface,
		})
	}
	for _, s := range rules.Options.FailsafeIn {
		parts.FailsafeInbound = append(parts.FailsafeInbound, explain.Failsafe(s))
	}
	for _, s := range rules.Options.FailsafeOut {
		parts.FailsafeOutbound = append(parts.FailsafeOutbound, explain.Failsafe(s))
	}
	parts.Profiles = j.memory.profiles(j.job, &parts)
	for _, p := range parts.Policies {
		j.sources = j.sources || usesSourcePorts(p.Ingress) || usesSourcePorts(p.Egress)
		j.early = j.early || p.Stage == policy.PreDNAT
	}
	for _, p := range parts.Profiles {
		j.sources = j.sources || usesSourcePorts(p.Ingress) || usesSourcePorts(p.Egress)
	}
	return parts
}
