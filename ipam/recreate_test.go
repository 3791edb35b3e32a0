// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"net/netip"
	"testing"

	"korat/api"
)

// A block whose object somebody has deleted while its owner was away is made anew with what the other nodes'
// pods have borrowed of it.
func TestBlockMadeAnewKnowsBorrowers(t *testing.T) {
	const cidr = "10.0.0.4/30"
	endpoint := func(node, pod, network string) *api.WorkloadEndpoint {
		ep := &api.WorkloadEndpoint{Spec: api.WorkloadEndpointSpec{Node: node, IPNetworks: []string{network}}}
		ep.Namespace, ep.Name = "ns", node+"-k8s-"+pod+"-eth0"
		return ep
	}
	st := filled(t, pool("p", "10.0.0.0/29", 30), affinity("a", cidr, "confirmed"),
		endpoint("b", "guest", "10.0.0.5/32"), endpoint("b", "elsewhere", "10.0.1.5/32"), endpoint("a", "own", "10.0.0.6/32"))
	if _, err := run(t, st, "a"); err != nil {
		t.Fatal(err)
	}
	if have := stored(t, st, cidr); have != "10.0.0.5=lease-b" {
		t.Errorf("have %q", have)
	}

	owner := NewAllocator("a", fixed)
	owner.Update(picture(t, st))
	for _, handle := range []string{"h1", "h2", "h3"} {
		if addrs, err := owner.Assign(auto(handle)); err != nil || addrs[0] == netip.MustParseAddr("10.0.0.5") {
			t.Errorf("%s gets %v, %v", handle, addrs, err)
		}
	}
	if addrs, err := owner.Assign(auto("h4")); err == nil {
		t.Errorf("the fourth gets %v of three", addrs)
	}

	borrower := NewAllocator("b", fixed)
	borrower.Restore("guest", map[string]string{"node": "b"}, []netip.Addr{netip.MustParseAddr("10.0.0.5")})
	borrower.Update(picture(t, st))
	k := NewKeeper(st, "b", quiet())
	k.Want(borrower.Wants())
	if _, err := k.pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	if have := stored(t, st, cidr); have != "10.0.0.5=guest" {
		t.Errorf("after its borrower has said so: have %q", have)
	}
}
