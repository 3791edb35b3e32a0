// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"encoding/binary"
	"fmt"
	"iter"
	"net/netip"
	"time"

	"korat/api"
	"korat/ipam/block"
)

// crowd is a cluster of nodes that have a block of 64 addresses and some pods each.
type crowd struct {
	Crowd
	born time.Time
}

const crowdPool = "10.0.0.0/8"

// objects yields everything, ready to be stored.
func (c crowd) objects() iter.Seq2[api.Object, error] {
	return func(yield func(api.Object, error) bool) {
		for _, obj := range c.settings() {
			if !yield(defaulted(obj), nil) {
				return
			}
		}
		for i := range c.Nodes {
			if !c.ofNode(i, yield) {
				return
			}
		}
	}
}

// ofNode yields a node with its block and its pods, and says whether more is wanted.
func (c crowd) ofNode(i int, yield func(api.Object, error) bool) bool {
	blk, err := c.block(i, 0)
	if !yield(blk, err) || !yield(c.node(i), nil) || !yield(c.affinity(i), nil) {
		return false
	}
	for j := range c.PodsPerNode {
		if !yield(c.endpoint(i, j), nil) {
			return false
		}
	}
	return true
}

// settings are a pool, and what a cluster of that size has in place of the full mesh.
func (crowd) settings() []api.Object {
	off := false
	bgp := &api.BGPConfiguration{Spec: api.BGPConfigurationSpec{NodeToNodeMeshEnabled: &off}}
	bgp.Name = api.DefaultName
	pool := &api.IPPool{Spec: api.IPPoolSpec{CIDR: crowdPool, BlockSize: 26}}
	pool.Name = "crowd"
	return []api.Object{bgp, pool}
}

func nodeName(i int) string { return fmt.Sprintf("node-%05d.example.com", i) }

func podName(i, j int) string { return fmt.Sprintf("web-%d-5d4f8c7b9-%05d", i, j) }

func blockOf(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 10<<24|uint32(i)<<6))), 26)
}

func (crowd) node(i int) api.Object {
	address := fmt.Sprintf("172.20.%d.%d", 1+i>>8, i&255)
	n := &api.Node{Spec: api.NodeSpec{
		BGP:       &api.NodeBGPSpec{IPv4Address: address + "/16"},
		Addresses: []api.NodeAddress{{Address: address, Type: "InternalIP"}},
	}}
	n.Name = nodeName(i)
	return defaulted(n)
}

func (crowd) affinity(i int) api.Object {
	a := &api.BlockAffinity{Spec: api.BlockAffinitySpec{State: api.AffinityConfirmed, Node: nodeName(i), CIDR: blockOf(i).String()}}
	a.Name = api.AffinityName(nodeName(i), blockOf(i))
	return defaulted(a)
}

// block is a node's, with the addresses of its pods and of some more.
func (c crowd) block(i, more int) (api.Object, error) {
	b, err := block.New(blockOf(i), api.AffinityHost+":"+nodeName(i))
	if err != nil {
		return nil, fmt.Errorf("make block %d: %w", i, err)
	}
	for j := range c.PodsPerNode + more {
		b.Assign(1, block.Holder{Handle: "k8s." + podName(i, j) + ".eth0", Attrs: map[string]string{
			"namespace": "default", "pod": podName(i, j), "node": nodeName(i), "timestamp": c.born.UTC().Format(time.RFC3339),
		}}, nil)
	}
	obj := &api.IPAMBlock{Spec: b.Spec()}
	obj.Name = api.BlockName(b.Prefix())
	return defaulted(obj), nil
}

func (crowd) endpoint(i, j int) *api.WorkloadEndpoint {
	address := binary.BigEndian.AppendUint32(nil, 10<<24|uint32(i)<<6|uint32(j))
	w := &api.WorkloadEndpoint{Spec: api.WorkloadEndpointSpec{
		Orchestrator: "k8s", Workload: podName(i, j), Node: nodeName(i), Pod: podName(i, j), Endpoint: "eth0",
		ContainerID:   fmt.Sprintf("%032x%032x", i, j),
		IPNetworks:    []string{netip.PrefixFrom(netip.AddrFrom4([4]byte(address)), 32).String()},
		InterfaceName: fmt.Sprintf("cali%011x", i<<8|j), MAC: fmt.Sprintf("02:00:%02x:%02x:%02x:%02x", address[0], address[1], address[2], address[3]),
	}}
	w.Namespace, w.Name = "default", api.WorkloadEndpointName(nodeName(i), "k8s", podName(i, j), "eth0")
	api.Default(w)
	return w
}

// changed gives the i-th node's object of a kind after something happened there.
func (c crowd) changed(kind api.Kind, i int) (api.Object, error) {
	switch kind {
	case api.KindWorkloadEndpoint:
		w := c.endpoint(i, 0)
		w.Spec.MAC = "02:00:00:00:00:00"
		return w, nil
	case api.KindIPAMBlock:
		return c.block(i, 1)
	default:
		return nil, fmt.Errorf("change %s: not simulated", kind)
	}
}

func defaulted(obj api.Object) api.Object {
	api.Default(obj)
	return obj
}
