// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"fmt"
	"slices"

	"korat/api"
	"korat/cni-plugin/socket"
	"korat/felix/autodetect"
	"korat/felix/endpoint"
	"korat/ipam"
)

// wanted is what an ADD asks of ipam.
func wanted(ep endpoint.Endpoint, r socket.Request) (ipam.Request, error) {
	want := ipam.Request{Handle: ep.Handle(), Addresses: r.Addresses, Pools: map[api.Family][]string{}}
	for _, f := range r.Families {
		family := api.Family(f.Version)
		if family != api.IPv4 && family != api.IPv6 {
			return want, &socket.Error{
				Code: socket.CodeInvalidConfig, Message: "address family",
				Details: fmt.Sprintf("IPv%d is unknown: are plugin and agent of the same version?", f.Version),
			}
		}
		want.Families = append(want.Families, family)
		want.Pools[family] = append(want.Pools[family], f.Pools...)
	}
	return want, nil
}

// servable refuses an ADD for a family that the node is not reached by: nobody would hear of the pod's
// address.
func servable(r socket.Request, own api.Addresses) error {
	for _, f := range r.Families {
		family := api.Family(f.Version)
		if !own.Of(family).IsValid() {
			return &socket.Error{
				Code: socket.CodeInvalidConfig, Message: fmt.Sprintf("ipam.assign_ipv%d", f.Version),
				Details: fmt.Sprintf("the network configuration asks for an %s address, but this node has none itself: start korat-node with %s, or set ipam.assign_ipv%d to \"false\"",
					family, autodetect.Flag(family), f.Version),
			}
		}
	}
	return nil
}

// sameRequest refuses an ADD that repeats a known attachment with other wishes.
func sameRequest(ep endpoint.Endpoint, r socket.Request) error {
	if !ep.Alias().Of(r.Namespace, r.Pod) || ep.Network != r.Network && ep.Network != "" {
		return &socket.Error{
			Code: socket.CodeInvalidConfig, Message: "attachment exists",
			Details: fmt.Sprintf("%s is attached to network %s as %s/%s: DEL it first", ep.ID, ep.Network, ep.Namespace, ep.Pod),
		}
	}
	for _, want := range r.Addresses {
		if !slices.Contains(ep.Addresses, want) {
			return &socket.Error{
				Code: socket.CodeNoAddress, Message: "attachment exists",
				Details: fmt.Sprintf("%s has %v, not %s: DEL it first", ep.ID, ep.Addresses, want),
			}
		}
	}
	return sameFamilies(ep, r.Families)
}

// sameFamilies compares the families that are asked for with those of the addresses that were given.
func sameFamilies(ep endpoint.Endpoint, asked []socket.Family) error {
	for _, family := range api.Families() {
		has := slices.ContainsFunc(ep.Addresses, family.Has)
		wants := slices.ContainsFunc(asked, func(f socket.Family) bool { return api.Family(f.Version) == family })
		if len(asked) > 0 && has != wants {
			return &socket.Error{
				Code: socket.CodeInvalidConfig, Message: "attachment exists",
				Details: fmt.Sprintf("%s has %v, but ipam.assign_ipv%d is now %t: DEL it first", ep.ID, ep.Addresses, family, wants),
			}
		}
	}
	return nil
}
