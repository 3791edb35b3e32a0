// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"korat/api"
	"korat/ipam/audit"
	"korat/ipam/block"
)

// noon is when the tests' checks are made.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// picture makes a Snapshot of lines:
//
//	node NAME…
//	pool NAME CIDR [disabled|terminating]
//	reservation CIDR…
//	affinity NODE CIDR STATE
//	claimed NODE CIDR ADDRESS…    a block and its confirmed affinity
//	block NODE CIDR ADDRESS…      NODE may be "-"
//	endpoint NODE NAMESPACE/NAME CONTAINER ADDRESS…
//
// An ADDRESS of a block is "A=HANDLE@NODE" (in use since ten in the morning), "A=HANDLE@NODE,now",
// "A=HANDLE@NODE,cooling" or "A^NODE", which is a lease.
func picture(t testing.TB, lines string) api.Snapshot {
	t.Helper()
	snap := api.Snapshot{InSync: true}
	for line := range strings.Lines(lines) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		for _, obj := range objects(t, f[0], f[1:]) {
			api.Default(obj)
			snap = snap.With(obj)
		}
	}
	return snap
}

func objects(t testing.TB, what string, f []string) []api.Object {
	t.Helper()
	switch what {
	case "node":
		var all []api.Object
		for _, name := range f {
			all = append(all, &api.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
		}
		return all
	case "pool":
		p := &api.IPPool{ObjectMeta: metav1.ObjectMeta{Name: f[0]}, Spec: api.IPPoolSpec{CIDR: f[1]}}
		p.Spec.Disabled = len(f) > 2 && f[2] == "disabled"
		if len(f) > 2 && f[2] == "terminating" {
			p.DeletionTimestamp = &metav1.Time{Time: noon}
		}
		return []api.Object{p}
	case "reservation":
		return []api.Object{&api.IPReservation{ObjectMeta: metav1.ObjectMeta{Name: "r"}, Spec: api.IPReservationSpec{ReservedCIDRs: f}}}
	case "affinity":
		return []api.Object{affinity(f[0], f[1], f[2])}
	case "claimed":
		return []api.Object{affinity(f[0], f[1], api.AffinityConfirmed), ipamBlock(t, f[0], f[1], f[2:])}
	case "block":
		return []api.Object{ipamBlock(t, f[0], f[1], f[2:])}
	case "endpoint":
		namespace, name, _ := strings.Cut(f[1], "/")
		ep := &api.WorkloadEndpoint{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
		ep.Spec = api.WorkloadEndpointSpec{Node: f[0], Pod: name, ContainerID: f[2], Endpoint: "eth0", InterfaceName: "cali" + name}
		for _, text := range f[3:] {
			a := netip.MustParseAddr(text)
			ep.Spec.IPNetworks = append(ep.Spec.IPNetworks, netip.PrefixFrom(a, a.BitLen()).String())
		}
		return []api.Object{ep}
	}
	t.Fatalf("unknown word %q", what)
	return nil
}

func affinity(node, cidr, state string) *api.BlockAffinity {
	return &api.BlockAffinity{
		ObjectMeta: metav1.ObjectMeta{Name: api.AffinityName(node, netip.MustParsePrefix(cidr))},
		Spec:       api.BlockAffinitySpec{State: state, Node: node, CIDR: cidr},
	}
}

func ipamBlock(t testing.TB, node, cidr string, held []string) *api.IPAMBlock {
	t.Helper()
	p, owner := netip.MustParsePrefix(cidr), "host:"+node
	if node == "-" {
		owner = ""
	}
	b, err := block.New(p, owner)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range held {
		if err := hold(b, text); err != nil {
			t.Fatal(err)
		}
	}
	return &api.IPAMBlock{ObjectMeta: metav1.ObjectMeta{Name: api.BlockName(p)}, Spec: b.Spec()}
}

func hold(b *block.Block, text string) error {
	if addr, node, ok := strings.Cut(text, "^"); ok {
		return b.AssignAddr(netip.MustParseAddr(addr), block.Lease(node, "run"))
	}
	text, how, _ := strings.Cut(text, ",")
	addr, holder, _ := strings.Cut(text, "=")
	handle, node, _ := strings.Cut(holder, "@")
	a := netip.MustParseAddr(addr)
	at := noon.Add(-2 * time.Hour)
	if how == "now" {
		at = noon.Add(-time.Second)
	}
	attrs := map[string]string{"namespace": "ns", "pod": "pod-" + handle, "node": node, "timestamp": at.Format(time.RFC3339)}
	if err := b.AssignAddr(a, block.Holder{Handle: "net." + handle + ".eth0", Attrs: attrs}); err != nil || how != "cooling" {
		return err
	}
	return b.Release(a, b.Sequence(), noon)
}

// texts gives findings as lines, with the remedy's first words.
func texts(findings []audit.Finding) string {
	var b strings.Builder
	for _, f := range findings {
		fmt.Fprintf(&b, "%s: %s", f.Kind, f.Object)
		if f.Address.IsValid() {
			fmt.Fprintf(&b, " %s", f.Address)
		}
		fmt.Fprintf(&b, ": %s\n", f.Detail)
	}
	return b.String()
}

// healthy has nothing wrong: two nodes, a pool of each family, one address borrowed, one leased, one cooling down.
const healthy = `
node a b
pool p 10.0.0.0/24
pool six fd00::/64
claimed a 10.0.0.0/30 10.0.0.0=c1@a 10.0.0.1=c2@b 10.0.0.2^a 10.0.0.3=c0@a,cooling
claimed b 10.0.0.4/30
claimed a fd00::/126 fd00::1=c1@a
endpoint a ns/one c1 10.0.0.0 fd00::1
endpoint b ns/two c2 10.0.0.1
`
