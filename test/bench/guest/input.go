// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"net/netip"
	"time"

	"korat/api"
	"korat/felix/endpoint"
	"korat/ipam/block"
)

// Input is what policies are measured with: a node with so many endpoints, a cluster with so many policies, and so
// many groups, each of which a share of the policies selects.
//
// Endpoint i has the labels app = a(i mod Groups) and role = r(i mod 7), an address of 10.65.0.0/16, the interface
// cali(i) and the profile kns.default, which allows everything. Policy j is a GlobalNetworkPolicy of the default tier,
// of order 100 + j, that selects app == 'a(j mod Groups)' both ways. Four of its ingress rules, k = 0 to 3, allow TCP
// from role == 'r((j + k) mod 7)' to the ports 8000 + j and 9000 to 9010 + k, the fifth allows UDP to port 53 from
// 192.0.2.0/24 and 198.51.100.(j mod 250)/32. Its one egress rule allows everything.
type Input struct{ Endpoints, Policies, Groups int }

// String gives "100 × 100": endpoints and policies.
func (in Input) String() string {
	return fmt.Sprintf("%s × %s", thousands(in.Endpoints), thousands(in.Policies))
}

func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}

const (
	inputNode    = "one"
	inputNetwork = "korat"
	inputPool    = "10.65.0.0/16"
	// inputBlock is the length of the prefix of a block.
	inputBlock = 24
	inputMTU   = 1500
	// inputRoom is how many more endpoints the blocks are for at least.
	inputRoom = 100
)

// labels are those of endpoint i.
func (in Input) labels(i int) map[string]string {
	return map[string]string{"app": fmt.Sprint("a", i%in.Groups), "role": fmt.Sprint("r", i%7)}
}

func inputInterface(i int) string { return fmt.Sprintf("cali%05d", i) }

func inputAddress(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 65, byte(i >> 8), byte(i)}) }

func inputMAC(i int) string { return fmt.Sprintf("02:00:00:00:%02x:%02x", i>>8, i&255) }

// record is endpoint i as an agent has recorded it.
func (in Input) record(i int) endpoint.Endpoint {
	name := fmt.Sprintf("pod-%05d", i)
	sum := sha256.Sum256([]byte(name))
	return endpoint.Endpoint{
		ID:      endpoint.ID{ContainerID: hex.EncodeToString(sum[:]), IfName: endpoint.DefaultIfName},
		Network: inputNetwork, Namespace: "default", Pod: name, NetNS: "/run/netns/pods", Interface: inputInterface(i),
		MAC: inputMAC(i), MTU: inputMTU, Addresses: []netip.Addr{inputAddress(i)}, Ready: true, Since: time.Unix(1, 0).UTC(),
		Traits: endpoint.Traits{Labels: in.labels(i)},
	}
}

// workload is endpoint i as an agent shows it.
func (in Input) workload(i int) *api.WorkloadEndpoint {
	r := in.record(i)
	w := &api.WorkloadEndpoint{Spec: api.WorkloadEndpointSpec{
		Orchestrator: "k8s", Workload: r.Pod, Node: inputNode, Pod: r.Pod, Endpoint: r.IfName, ContainerID: r.ContainerID,
		IPNetworks: []string{netip.PrefixFrom(r.Addresses[0], 32).String()}, InterfaceName: r.Interface, MAC: r.MAC,
	}}
	w.Namespace, w.Name = r.Namespace, api.WorkloadEndpointName(inputNode, "k8s", r.Pod, r.IfName)
	w.Labels = r.Traits.Labels
	api.Default(w)
	return w
}

// policy is policy j. Another variant has another port in place of 8000 + j.
func (in Input) policy(j, variant int) *api.GlobalNetworkPolicy {
	order := float64(100 + j)
	tcp, udp := api.Protocol("TCP"), api.Protocol("UDP")
	p := &api.GlobalNetworkPolicy{}
	p.Name = fmt.Sprint("policy-", j)
	p.Spec.Order, p.Spec.Selector = &order, fmt.Sprintf("app == 'a%d'", j%in.Groups)
	p.Spec.Types = []api.PolicyType{api.Ingress, api.Egress}
	for k := range 4 {
		own := uint16(8000 + j)
		if variant > 0 {
			own = uint16(20000 + variant)
		}
		p.Spec.Ingress = append(p.Spec.Ingress, api.Rule{
			Action: api.Allow, Protocol: &tcp, Source: api.EntityRule{Selector: fmt.Sprintf("role == 'r%d'", (j+k)%7)},
			Destination: api.EntityRule{Ports: []api.Port{{First: own, Last: own}, {First: 9000, Last: uint16(9010 + k)}}},
		})
	}
	p.Spec.Ingress = append(p.Spec.Ingress, api.Rule{
		Action: api.Allow, Protocol: &udp,
		Source:      api.EntityRule{Nets: []string{"192.0.2.0/24", fmt.Sprintf("198.51.100.%d/32", j%250)}},
		Destination: api.EntityRule{Ports: []api.Port{{First: 53, Last: 53}}},
	})
	p.Spec.Egress = []api.Rule{{Action: api.Allow}}
	api.Default(p)
	return p
}

// objects yields what a datastore has before an agent starts: policies, and the node's blocks with the endpoints'
// addresses. Endpoints are the agent's own to write.
func (in Input) objects() iter.Seq2[api.Object, error] {
	return func(yield func(api.Object, error) bool) {
		off := false
		bgp := &api.BGPConfiguration{Spec: api.BGPConfigurationSpec{NodeToNodeMeshEnabled: &off}}
		bgp.Name = api.DefaultName
		pool := &api.IPPool{Spec: api.IPPoolSpec{CIDR: inputPool, BlockSize: inputBlock}}
		pool.Name = "input"
		if !yield(defaulted(bgp), nil) || !yield(defaulted(pool), nil) {
			return
		}
		for j := range in.Policies {
			if !yield(in.policy(j, 0), nil) {
				return
			}
		}
		for first := 0; first < in.Endpoints+inputRoom; first += 1 << (32 - inputBlock) {
			prefix := netip.PrefixFrom(inputAddress(first), inputBlock)
			blk, err := in.block(prefix, first)
			affinity := &api.BlockAffinity{Spec: api.BlockAffinitySpec{State: api.AffinityConfirmed, Node: inputNode, CIDR: prefix.String()}}
			affinity.Name = api.AffinityName(inputNode, prefix)
			if !yield(blk, err) || !yield(defaulted(affinity), nil) {
				return
			}
		}
	}
}

// block is a block with the addresses from that of an endpoint on.
func (in Input) block(prefix netip.Prefix, first int) (api.Object, error) {
	b, err := block.New(prefix, api.AffinityHost+":"+inputNode)
	if err != nil {
		return nil, fmt.Errorf("make block %s: %w", prefix, err)
	}
	for i := first; i < in.Endpoints && prefix.Contains(inputAddress(i)); i++ {
		r := in.record(i)
		err := b.AssignAddr(r.Addresses[0], block.Holder{Handle: r.Handle(), Attrs: map[string]string{
			"namespace": r.Namespace, "pod": r.Pod, "node": inputNode, "timestamp": r.Since.Format(time.RFC3339),
		}})
		if err != nil {
			return nil, fmt.Errorf("make block %s: %w", prefix, err)
		}
	}
	obj := &api.IPAMBlock{Spec: b.Spec()}
	obj.Name = api.BlockName(prefix)
	return defaulted(obj), nil
}
