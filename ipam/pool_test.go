// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"korat/api"
)

// but gives a pool with a changed object.
func but(p *api.IPPool, change func(*api.IPPool)) *api.IPPool {
	change(p)
	return p
}

// labelled gives node a with labels.
func labelled(labels map[string]string) *api.Node {
	n := &api.Node{ObjectMeta: metav1.ObjectMeta{Name: "a", Labels: labels}}
	api.Default(n)
	return n
}

func selecting(selector string) func(*api.IPPool) {
	return func(p *api.IPPool) { p.Spec.NodeSelector = selector }
}

// TestNodeSelector: a pool gives addresses to the nodes that it selects, by what their labels are now.
func TestNodeSelector(t *testing.T) {
	for selector, want := range map[string]string{
		"all()":                         "10.0.0.0",
		"":                              "10.0.0.0",
		"rack == 'r1'":                  "10.0.0.0",
		"rack == 'r2'":                  `no IPPool gives this node IPv4 addresses: p is not for this node: its nodeSelector is "rack == 'r2'"`,
		"!has(rack)":                    `its nodeSelector is "!has(rack)"`,
		"kubernetes.io/hostname == 'a'": "10.0.0.0",
		"kubernetes.io/hostname == 'b'": `its nodeSelector is "kubernetes.io/hostname == 'b'"`,
		"rack ==":                       `its nodeSelector is "rack =="`,
	} {
		s := synced(labelled(map[string]string{"rack": "r1"}), but(pool("p", "10.0.0.0/16", 30), selecting(selector)))
		a := node(own(t, s, "a", "10.0.0.0/30", ""))
		if have := ask(a, auto("h")); !strings.HasSuffix(have, want) {
			t.Errorf("%q: have %s, want %s", selector, have, want)
		}
	}
	bad := node(synced(but(pool("p", "10.0.0.0/16", 30), selecting("rack =="))))
	if p := fmt.Sprint(bad.Problems()); !strings.Contains(p, `IPPool/p: spec.nodeSelector "rack ==" selects no node: selector `+"`rack ==`: column 8: want a quoted string") {
		t.Errorf("problems %s", p)
	}
	known := node(synced(labelled(map[string]string{HostnameLabel: "host-1"}), but(pool("p", "10.0.0.0/16", 30), selecting("kubernetes.io/hostname == 'a'"))))
	if len(known.Needs()) > 0 {
		t.Error("the Node's own label is the hostname, not the Node's name")
	}
}

// TestLabelsChange: a node that gets or loses a label at run time gets or loses the pool.
func TestLabelsChange(t *testing.T) {
	s := synced(but(pool("p", "10.0.0.0/16", 30), selecting("rack == 'r1'")), pool("q", "10.1.0.0/16", 30))
	s = own(t, own(t, s, "a", "10.0.0.0/30", ""), "a", "10.1.0.0/30", "")
	a := node(s.With(labelled(nil)))
	for i, c := range []struct {
		labels map[string]string
		want   string
	}{
		{nil, "10.1.0.0"},
		{map[string]string{"rack": "r1"}, "10.0.0.0"},
		{map[string]string{"rack": "r2"}, "10.1.0.1"},
	} {
		a.Update(s.With(labelled(c.labels)))
		if have := ask(a, auto(fmt.Sprint(i))); have != c.want {
			t.Errorf("labels %v: have %s, want %s", c.labels, have, c.want)
		}
	}
	if have := ask(a, auto("named", "p")); !strings.Contains(have, `pool "p": it is not for this node: its nodeSelector is "rack == 'r1'"`) {
		t.Errorf("have %s", have)
	}
	if have := ask(a, want("w", "10.0.0.2")); !strings.Contains(have, `its pool "p" is not for this node`) {
		t.Errorf("have %s", have)
	}
	if have := ask(a, auto("1")); have != "10.0.0.0" {
		t.Errorf("a pod that is there lost its address: %s", have)
	}
}

// TestUsesAndModes: what a pool is not for, it does not give; Manual ones give what they are asked for.
func TestUsesAndModes(t *testing.T) {
	tunnels := but(pool("t", "10.2.0.0/16", 30), func(p *api.IPPool) { p.Spec.AllowedUses = []string{api.UseTunnel} })
	manual := but(pool("m", "10.3.0.0/16", 30), func(p *api.IPPool) { p.Spec.AssignmentMode = api.AssignManual })
	gone := but(pool("x", "10.4.0.0/16", 30), func(p *api.IPPool) { p.DeletionTimestamp = &metav1.Time{Time: noon} })
	s := synced(tunnels, manual, gone)
	for _, cidr := range []string{"10.2.0.0/30", "10.3.0.0/30", "10.4.0.0/30"} {
		s = own(t, s, "a", cidr, "")
	}
	a := node(s)
	for _, c := range []struct{ have, want string }{
		{ask(a, auto("1")), `no IPPool gives this node IPv4 addresses: m is for requests that name it; t is not for pods: its allowedUses are [Tunnel]; x is being deleted`},
		{ask(a, auto("2", "m")), "10.3.0.0"},
		{ask(a, auto("3", "10.3.0.0/16")), "10.3.0.1"},
		{ask(a, want("4", "10.3.0.3")), "10.3.0.3"},
		{ask(a, auto("5", "t")), `pool "t": it is not for pods: its allowedUses are [Tunnel]: want one of m (10.3.0.0/16)`},
		{ask(a, want("6", "10.2.0.1")), `its pool "t" is not for pods`},
		{ask(a, want("7", "10.4.0.1")), `its pool "x" is being deleted`},
		{ask(a, want("8", "10.3.0.9")), "block 10.3.0.8/30 has to be claimed first"},
		{needs(a), "10.3.0.8/30 of m"},
	} {
		if !strings.Contains(c.have, c.want) {
			t.Errorf("have %s\nwant %s", c.have, c.want)
		}
	}
}

func configuration(change func(*api.IPAMConfigurationSpec)) *api.IPAMConfiguration {
	c := settings(true, 0)
	change(&c.Spec)
	return c
}

func atMost(n int) *api.IPAMConfiguration {
	return configuration(func(s *api.IPAMConfigurationSpec) { s.MaxBlocksPerHost = n })
}

// TestLimitsGateClaims: they keep a node from claiming, not from using what it has.
func TestLimitsGateClaims(t *testing.T) {
	by := configuration(func(s *api.IPAMConfigurationSpec) { s.AutoAllocateBlocks = new(false) })
	s := own(t, synced(pool("p", "10.0.0.0/16", 31), pool("six", "fd00::/64", 126)), "a", "10.0.0.0/31", "10.0.0.0=h")
	for _, c := range []struct {
		config *api.IPAMConfiguration
		want   string
		needs  string
	}{
		{atMost(0), "a block has to be claimed", "p, six"},
		{atMost(2), "a block has to be claimed", "p, six"},
		{
			atMost(1),
			"IPAMConfiguration/default: spec.maxBlocksPerHost 1 reached: this node has 1 blocks, with 2 of 2 addresses in use: raise it, or remove pods", "",
		},
		{
			by,
			"IPAMConfiguration/default: spec.autoAllocateBlocks is false, so that no block is claimed: this node has 1 blocks, with 2 of 2 addresses in use: set it to true, or remove pods", "",
		},
	} {
		a := node(s.With(c.config))
		if have := ask(a, auto("1")); have != "10.0.0.1" {
			t.Errorf("what the node has stays in use: have %s", have)
		}
		_, err := a.Assign(auto("2"))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("have %v\nwant %s", err, c.want)
		}
		if limited := c.needs == ""; errors.Is(err, ErrNoAddress) != limited {
			t.Errorf("have %v", err)
		}
		if have := ask(a, want("3", "10.0.0.9")); c.needs == "" && !strings.Contains(have, "address 10.0.0.9: "+c.want) {
			t.Errorf("have %s", have)
		}
		a.Release("3")
		if have := needs(a); have != c.needs {
			t.Errorf("needs %s, want %s", have, c.needs)
		}
		// What is in use comes first: its block is claimed whatever the limit is.
		a.Restore("kept", nil, addrs("10.0.7.1"))
		if have := needs(a); !strings.HasPrefix(have, "10.0.7.0/31 of p") {
			t.Errorf("needs %s", have)
		}
	}
}

// TestLimitInOnePass: both families need a block, and only one more is allowed.
func TestLimitInOnePass(t *testing.T) {
	for limit, want := range map[int]string{1: "10.0.0.4/30=a a:confirmed", 2: "10.0.0.4/30=a a:confirmed\nfd00::4/126=a a:confirmed"} {
		st := filled(t, pool("p", "10.0.0.0/29", 30), pool("six", "fd00::/125", 126), atMost(limit))
		k := NewKeeper(st, "a", quiet())
		for range 2 {
			if err := again(t, k, st, "a"); err != nil {
				t.Fatal(err)
			}
		}
		if have := owners(t, st); have != want {
			t.Errorf("limit %d: have %s, want %s", limit, have, want)
		}
		a := NewAllocator("a", fixed)
		a.Restore("kept", nil, addrs("10.0.0.1"))
		a.Update(picture(t, st))
		k.Want(a.Wants())
		if _, err := k.pass(t.Context()); err != nil || !strings.Contains(owners(t, st), "10.0.0.0/30=a") {
			t.Errorf("limit %d: the block of a pod that is there: %v, %s", limit, err, owners(t, st))
		}
	}
}
