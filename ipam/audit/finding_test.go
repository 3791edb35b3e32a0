// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"korat/api"
	"korat/ipam/audit"
)

func TestFindings(t *testing.T) {
	reached := map[audit.Kind]bool{}
	for name, c := range map[string]struct{ lines, want string }{
		"healthy": {healthy, ""},
		"without endpoint": {healthy + `
claimed b 10.0.0.8/30 10.0.0.8=c8@b 10.0.0.9=c9@b,now 10.0.0.10=c10@gone 10.0.0.11=c11@a`, `
allocation without endpoint: IPAMBlock/10-0-0-8-30 10.0.0.8: held by pod ns/pod-c8 (handle "net.c8.eth0") on node b since 2026-03-01T10:00:00Z
allocation without endpoint: IPAMBlock/10-0-0-8-30 10.0.0.11: held by pod ns/pod-c11 (handle "net.c11.eth0") on node a since 2026-03-01T10:00:00Z
address borrowed by a node that does not exist: IPAMBlock/10-0-0-8-30 10.0.0.10: held by pod ns/pod-c10 (handle "net.c10.eth0") on node gone, from a block of node b
`},
		"endpoints": {healthy + `
claimed b 10.0.0.8/30 10.0.0.8=c8@b 10.0.0.9=c9@b,cooling 10.0.0.10^b
endpoint b ns/twin c8 10.0.0.8
endpoint b ns/other x8 10.0.0.8
endpoint b ns/cooling c9 10.0.0.9
endpoint a ns/leased c10 10.0.0.10
endpoint a ns/free c11 10.0.0.11
endpoint a ns/blockless c12 10.0.0.12 fd00::99
endpoint a ns/stray c13 10.9.9.9
endpoint gone ns/gone c14 10.0.0.4`, `
several endpoints with one address: WorkloadEndpoint/ns/other 10.0.0.8: so has WorkloadEndpoint/ns/twin on node b
endpoint whose address another holds: WorkloadEndpoint/ns/other 10.0.0.8: on node b; its address is held by pod ns/pod-c8 (handle "net.c8.eth0") on node b
endpoint without allocation: WorkloadEndpoint/ns/gone 10.0.0.4: on node gone; its address is free in block 10.0.0.4/30 of node b
endpoint without allocation: WorkloadEndpoint/ns/cooling 10.0.0.9: on node b; its address is cooling down in block 10.0.0.8/30 of node b
endpoint without allocation: WorkloadEndpoint/ns/leased 10.0.0.10: on node a; its address is leased in block 10.0.0.8/30 of node b
endpoint without allocation: WorkloadEndpoint/ns/free 10.0.0.11: on node a; its address is free in block 10.0.0.8/30 of node b
endpoint without allocation: WorkloadEndpoint/ns/blockless 10.0.0.12: on node a; its address is in no block
endpoint without allocation: WorkloadEndpoint/ns/blockless fd00::99: on node a; its address is in no block
endpoint outside every pool: WorkloadEndpoint/ns/stray 10.9.9.9: no IPPool has the address
endpoint of a node that does not exist: WorkloadEndpoint/ns/gone: on node gone, with 10.0.0.4/32
`},
		"the same container on another node": {healthy + `
claimed b 10.0.0.8/30 10.0.0.8=c8@b
endpoint a ns/moved c8 10.0.0.8`, `
endpoint whose address another holds: WorkloadEndpoint/ns/moved 10.0.0.8: on node a; its address is held by pod ns/pod-c8 (handle "net.c8.eth0") on node b
`},
		"handles": {healthy + `
claimed b 10.0.0.8/30 10.0.0.8=c8@b 10.0.0.9=c8@a
endpoint b ns/eight c8 10.0.0.8
endpoint a ns/nine c8 10.0.0.9`, `
handle on several nodes: IPAMBlock/10-0-0-8-30 10.0.0.8: handle "net.c8.eth0" has 10.0.0.8, 10.0.0.9, of nodes a, b
`},
		"blocks": {healthy + `
block b 10.0.0.8/30
block gone 10.0.0.12/30
block - 10.0.0.16/30
block b 10.0.0.20/30
affinity b 10.0.0.20/30 pending
claimed b 10.7.0.0/30 10.7.0.0=c7@b
endpoint b ns/seven c7 10.7.0.0`, `
endpoint outside every pool: WorkloadEndpoint/ns/seven 10.7.0.0: no IPPool has the address
block outside every pool: IPAMBlock/10-7-0-0-30: 10.7.0.0/30 has 1 addresses in use
block without affinity: IPAMBlock/10-0-0-12-30: it belongs to node gone, which has no affinity to it
block without affinity: IPAMBlock/10-0-0-16-30: it belongs to no node
block without affinity: IPAMBlock/10-0-0-20-30: the affinity of node b to it is pending
block without affinity: IPAMBlock/10-0-0-8-30: it belongs to node b, which has no affinity to it
`},
		"affinities": {healthy + `
affinity b 10.0.0.0/30 confirmed
affinity b 10.0.0.8/30 confirmed
affinity gone 10.0.0.12/30 pending
affinity gone 10.0.0.4/30 confirmed
claimed gone 10.0.0.16/30 10.0.0.17^gone`, `
affinity without block: BlockAffinity/b-10-0-0-8-30: confirmed, but there is no IPAMBlock/10-0-0-8-30
affinity to another node's block: BlockAffinity/b-10-0-0-0-30: confirmed, but IPAMBlock/10-0-0-0-30 is of node a
affinity of a node that does not exist: BlockAffinity/gone-10-0-0-12-30: node gone, which does not exist, claims block 10.0.0.12/30
affinity of a node that does not exist: BlockAffinity/gone-10-0-0-16-30: node gone, which does not exist, has block 10.0.0.16/30
affinity of a node that does not exist: BlockAffinity/gone-10-0-0-4-30: node gone, which does not exist, claims block 10.0.0.4/30
lease of a node that does not exist: IPAMBlock/10-0-0-16-30 10.0.0.17: node gone, in a block of node gone
`},
		"overlaps": {healthy + `
claimed b 10.0.0.0/29 10.0.0.0=c1@b
claimed b 10.0.0.2/31`, `
overlapping blocks: IPAMBlock/10-0-0-0-30: 10.0.0.0/30 of node a has addresses of IPAMBlock/10-0-0-0-29 of node b
overlapping blocks: IPAMBlock/10-0-0-2-31: 10.0.0.2/31 of node b has addresses of IPAMBlock/10-0-0-0-29 of node b
overlapping blocks: IPAMBlock/10-0-0-2-31: 10.0.0.2/31 of node b has addresses of IPAMBlock/10-0-0-0-30 of node a
overlapping blocks: IPAMBlock/10-0-0-4-30: 10.0.0.4/30 of node b has addresses of IPAMBlock/10-0-0-0-29 of node b
address in two blocks: IPAMBlock/10-0-0-0-30 10.0.0.0: held by pod ns/pod-c1 (handle "net.c1.eth0"), and in block 10.0.0.0/29 by pod ns/pod-c1 (handle "net.c1.eth0")
handle on several nodes: IPAMBlock/10-0-0-0-29 10.0.0.0: handle "net.c1.eth0" has 10.0.0.0, 10.0.0.0, fd00::1, of nodes a, b
`},
		"pools": {`
node a
pool p 10.0.0.0/24 terminating
pool q 10.1.0.0/24 terminating
claimed a 10.0.0.0/30 10.0.0.0=c1@a
endpoint a ns/one c1 10.0.0.0`, `
pool being deleted: IPPool/p: 1 of its addresses are in use
pool being deleted: IPPool/q: 0 of its addresses are in use
`},
	} {
		t.Run(name, func(t *testing.T) {
			have := audit.Read(picture(t, c.lines)).Findings(noon)
			if diff := cmp.Diff(strings.TrimPrefix(c.want, "\n"), texts(have)); diff != "" {
				t.Error(diff)
			}
			for _, f := range have {
				reached[f.Kind] = true
				if f.Remedy == "" {
					t.Errorf("no remedy: %v", f)
				}
			}
		})
	}
	for _, k := range audit.Kinds() {
		if !reached[k] && k != audit.Unreadable {
			t.Errorf("nothing finds %q", k)
		}
	}
}

func TestUnreadable(t *testing.T) {
	snap := picture(t, healthy)
	broken := picture(t, "block a 10.0.0.8/30 10.0.0.8=c8@a").IPAMBlocks
	obj, _ := broken.Get("10-0-0-8-30")
	obj = obj.DeepCopy()
	obj.Spec.Unallocated = nil
	named := obj.DeepCopy()
	named.Name, named.Spec.CIDR = "stray", "10.0.0.12/30"
	named.Spec.Unallocated = []int{1, 2, 3}
	odd := affinity("a", "10.0.0.8/30", api.AffinityConfirmed)
	other := affinity("a", "10.0.0.12/30", api.AffinityConfirmed)
	other.Name = "other"
	pool := &api.IPPool{Spec: api.IPPoolSpec{CIDR: "x"}}
	pool.Name = "x"
	hollow, err := api.Restore(api.Key{Kind: api.KindWorkloadEndpoint, Namespace: "ns", Name: "w"}, []byte("{"))
	if err != nil {
		t.Fatal(err)
	}
	snap = snap.With(obj).With(named).With(odd).With(other).With(pool).With(hollow)
	want := `unreadable object: BlockAffinity/other: spec.node "a" and spec.cidr 10.0.0.12/30 do not fit its name
unreadable object: IPAMBlock/10-0-0-8-30: block 10.0.0.8/30: spec.unallocated lacks addresses that spec.allocations says are free
unreadable object: IPAMBlock/stray: spec.cidr 10.0.0.12/30 does not fit its name: want "10-0-0-12-30"
unreadable object: IPPool/x: netip.ParsePrefix("x"): no '/'
unreadable object: WorkloadEndpoint/ns/w: unexpected end of JSON input
allocation without endpoint: IPAMBlock/10-0-0-8-30 10.0.0.8: held by pod ns/pod-c8 (handle "net.c8.eth0") on node a since 2026-03-01T10:00:00Z
allocation without endpoint: IPAMBlock/10-0-0-12-30 10.0.0.12: held by pod ns/pod-c8 (handle "net.c8.eth0") on node a since 2026-03-01T10:00:00Z
block without affinity: IPAMBlock/stray: it belongs to node a, which has no affinity to it
`
	if diff := cmp.Diff(want, texts(audit.Read(snap).Findings(noon))); diff != "" {
		t.Error(diff)
	}
}

// TestConfirmed: what one of two reads shows is under way, not wrong; so is an address that was assigned anew between them.
func TestConfirmed(t *testing.T) {
	first := audit.Read(picture(t, healthy+`
claimed b 10.0.0.8/30 10.0.0.8=c8@b 10.0.0.9=c9@b 10.0.0.10=c10@b`)).Findings(noon)
	second := audit.Read(picture(t, healthy+`
claimed b 10.0.0.8/30 10.0.0.8=c8@b 10.0.0.10=c10@b 10.0.0.9=c9@b 10.0.0.11=c11@b`))
	r := second.Report(first, "guid", noon)
	var have []string
	for _, f := range r.Findings {
		have = append(have, f.Address.String())
	}
	if !slices.Equal(have, []string{"10.0.0.8"}) {
		t.Errorf("have %v", have)
	}
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	again, err := audit.ParseReport(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, again, cmp.Comparer(func(x, y audit.Finding) bool { return x == y })); diff != "" {
		t.Error(diff)
	}
	for text, want := range map[string]string{
		"":                    "not a report of koratctl ipam check -o: EOF",
		"5":                   "not a report",
		`{"version":1,"x":1}`: `unknown field "x"`,
		`{"version":2}`:       "version: 2: want 1",
		`{"version":1}`:       "time: is missing",
		`{"version":1,"time":"2026-03-01T12:00:00Z"}`: "clusterGUID: is missing",
	} {
		if _, err := audit.ParseReport([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}
