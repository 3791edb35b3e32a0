// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"korat/ipam/audit"
)

// planText gives a plan as lines.
func planText(p audit.Plan) string {
	var b strings.Builder
	for _, a := range p.Releases {
		fmt.Fprintf(&b, "release %s of %s number %d\n", a.Address, a.Handle, a.Sequence)
	}
	for _, ep := range p.Endpoints {
		fmt.Fprintf(&b, "delete %s\n", ep.Key())
	}
	for _, c := range p.Claims {
		b.WriteString("remove " + c.Range.String())
		if c.Affinity != nil {
			b.WriteString(" " + c.Affinity.Name)
		}
		if c.Block != nil {
			b.WriteString(" " + c.Block.Name)
		}
		b.WriteString("\n")
	}
	for _, text := range p.Cuts {
		b.WriteString("cut " + text + "\n")
	}
	for _, text := range p.Kept {
		b.WriteString("keep " + text + "\n")
	}
	return b.String()
}

// goneNode is a cluster that has lost node c, with two pods, an address that it had borrowed and one that node b borrows
// from it.
const goneNode = healthy + `
claimed c 10.0.0.8/30 10.0.0.8=c8@c 10.0.0.9=c9@c 10.0.0.10^c 10.0.0.11=c11@c,cooling
claimed c fd00::4/126 fd00::4=c8@c
claimed c 10.0.0.12/30 10.0.0.12=c12@b
affinity c 10.0.0.16/30 pending
claimed b 10.0.0.20/30 10.0.0.20=c20@c
endpoint c ns/eight c8 10.0.0.8 fd00::4
endpoint b ns/twelve c12 10.0.0.12
`

func TestRelease(t *testing.T) {
	for name, c := range map[string]struct {
		before, now string
		force       bool
		want        string
	}{
		"nothing": {healthy, healthy, false, ""},
		"without endpoint": {
			healthy + "claimed b 10.0.0.8/30 10.0.0.8=c8@b 10.0.0.9=c9@b 10.0.0.10=c10@b",
			healthy + "claimed b 10.0.0.8/30 10.0.0.8=c8@b 10.0.0.9=c7@b 10.0.0.10=c10@b\nendpoint b ns/ten c10 10.0.0.10", false, `
release 10.0.0.8 of net.c8.eth0 number 1
keep 10.0.0.9: it is no longer so
keep 10.0.0.10: it is no longer so
`,
		},
		"a handle as a whole": {
			healthy + "claimed b 10.0.0.8/30 10.0.0.8=c8@b 10.0.0.9=c9@b\nclaimed b fd00::4/126 fd00::4=c8@b fd00::5=c9@b",
			healthy + "claimed b 10.0.0.8/30 10.0.0.8=c8@b 10.0.0.9=c9@b\nclaimed b fd00::4/126 fd00::4=c8@b fd00::5=c9@b\nendpoint b ns/eight c8 fd00::4", false, `
release 10.0.0.9 of net.c9.eth0 number 2
release fd00::5 of net.c9.eth0 number 2
keep fd00::4: it is no longer so
keep 10.0.0.8: its handle "net.c8.eth0" also has fd00::4, which is not found to be without endpoint
`,
		},
		"borrowed by a node that is there": {
			healthy + "claimed b 10.0.0.8/30 10.0.0.8=c8@a", healthy + "claimed b 10.0.0.8/30 10.0.0.8=c8@a", true, `
keep 10.0.0.8: node a has borrowed it and gives it back itself: delete its pod, or restart the agent there
`,
		},
		"blocks and affinities of nodes that are there": {
			healthy + "affinity b 10.0.0.8/30 confirmed\nblock b 10.0.0.12/30\naffinity b 10.0.0.0/30 confirmed",
			healthy + "affinity b 10.0.0.8/30 confirmed\nblock b 10.0.0.12/30\naffinity b 10.0.0.0/30 confirmed", true, "",
		},
		"blocks of no node": {
			healthy + "block gone 10.0.0.8/30\nblock - 10.0.0.12/30\nblock gone 10.0.0.16/30 10.0.0.16=c16@gone\nblock gone 10.0.0.20/30 10.0.0.20=c20@b\nendpoint b ns/x c20 10.0.0.20",
			healthy + "block gone 10.0.0.8/30\nblock - 10.0.0.12/30\nblock gone 10.0.0.16/30 10.0.0.16=c16@gone\nblock gone 10.0.0.20/30 10.0.0.20=c20@b\nendpoint b ns/x c20 10.0.0.20", false, `
release 10.0.0.16 of net.c16.eth0 number 1
remove 10.0.0.12/30 10-0-0-12-30
remove 10.0.0.16/30 10-0-0-16-30
remove 10.0.0.8/30 10-0-0-8-30
keep IPAMBlock/10-0-0-20-30: its block still has 10.0.0.20
`,
		},
		"a node that is gone, but perhaps not its pods": {goneNode, goneNode, false, `
release 10.0.0.9 of net.c9.eth0 number 2
release 10.0.0.20 of net.c20.eth0 number 1
remove 10.0.0.16/30 c-10-0-0-16-30
keep WorkloadEndpoint/ns/eight: node c does not exist, but its pod may: --force releases it if the host is gone for good
keep BlockAffinity/c-10-0-0-12-30: its block still has 10.0.0.12
keep BlockAffinity/c-10-0-0-8-30: its block still has 10.0.0.8
keep BlockAffinity/c-fd00--4-126: its block still has fd00::4
`},
		"a node that is gone for good": {goneNode, goneNode, true, `
release 10.0.0.8 of net.c8.eth0 number 1
release 10.0.0.9 of net.c9.eth0 number 2
release 10.0.0.20 of net.c20.eth0 number 1
release fd00::4 of net.c8.eth0 number 1
delete WorkloadEndpoint/ns/eight
remove 10.0.0.16/30 c-10-0-0-16-30
remove 10.0.0.8/30 c-10-0-0-8-30 10-0-0-8-30
remove fd00::4/126 c-fd00--4-126 fd00--4-126
cut WorkloadEndpoint/ns/eight on node c with 10.0.0.8/32, fd00::4/128, if its host still runs
keep BlockAffinity/c-10-0-0-12-30: its block still has 10.0.0.12
`},
		"a node that has come back": {goneNode, goneNode + "node c", true, `
release 10.0.0.9 of net.c9.eth0 number 2
`},
		"a lease in another node's block": {
			healthy + "claimed b 10.0.0.8/30 10.0.0.8^gone 10.0.0.9^b", healthy + "claimed b 10.0.0.8/30 10.0.0.8^gone 10.0.0.9^b", false, `
release 10.0.0.8 of lease-gone number 1
`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			found := audit.Read(picture(t, c.before)).Findings(noon)
			have := planText(audit.Read(picture(t, c.now)).Release(found, c.force, noon))
			if name == "a node that has come back" { // what is no longer so is said of each
				have = strings.Join(keepOut(strings.SplitAfter(have, "\n"), "no longer so"), "")
			}
			if diff := cmp.Diff(strings.TrimPrefix(c.want, "\n"), have); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func keepOut(lines []string, with string) []string {
	var rest []string
	for _, l := range lines {
		if !strings.Contains(l, with) {
			rest = append(rest, l)
		}
	}
	return rest
}

func TestReleaseAddress(t *testing.T) {
	snap := picture(t, goneNode+`
claimed b 10.0.0.24/29 10.0.0.24=c24@b 10.0.0.25=c25@b,now 10.0.0.26^b 10.0.0.28=c28@b 10.0.0.29=c29@b
claimed b 10.0.0.28/31 10.0.0.28=c28@b
claimed b fd00::8/126 fd00::9=c29@b
endpoint b ns/x c29 fd00::9`)
	for _, c := range []struct {
		addr  string
		force bool
		want  string
	}{
		{"10.0.0.24", false, "release 10.0.0.24 of net.c24.eth0 number 1\n"},
		{"10.0.0.30", false, "keep 10.0.0.30: it is free already, in block 10.0.0.24/29\n"},
		{"10.0.0.3", false, "keep 10.0.0.3: it is free already, and cooling down since 2026-03-01T12:00:00Z\n"},
		{"10.0.0.99", true, "keep 10.0.0.99: it is in no block\n"},
		{"10.0.0.25", false, `10.0.0.25 was given to pod ns/pod-c25 (handle "net.c25.eth0") less than 1m0s ago, and its endpoint may be on its way: try again`},
		{"10.0.0.25", true, "release 10.0.0.25 of net.c25.eth0 number 2\n"},
		{"10.0.0.26", true, "10.0.0.26 is leased to node b for its pods to come: its agent gives it back when it needs it no more"},
		{"10.0.0.10", false, "release 10.0.0.10 of lease-c number 3\n"},
		{"10.0.0.28", true, "10.0.0.28 is in two blocks, 10.0.0.24/29 and 10.0.0.28/31: remove the pods of one of them"},
		{"10.0.0.29", false, "fd00::9 is in use by WorkloadEndpoint/ns/x on node b: delete the pod; --force releases it all the same, and a pod that is there loses its address"},
		{"10.0.0.29", true, "release 10.0.0.29 of net.c29.eth0 number 5\nrelease fd00::9 of net.c29.eth0 number 1\ncut WorkloadEndpoint/ns/x on node b with fd00::9\n"},
		{"10.0.0.1", true, "10.0.0.1: node b has borrowed it and gives it back itself: delete its pod, or restart the agent there"},
		{"10.0.0.8", false, "10.0.0.8 is in use by WorkloadEndpoint/ns/eight on node c: delete the pod; --force releases it all the same, and a pod that is there loses its address"},
		{"10.0.0.8", true, "release 10.0.0.8 of net.c8.eth0 number 1\nrelease fd00::4 of net.c8.eth0 number 1\ndelete WorkloadEndpoint/ns/eight\ncut WorkloadEndpoint/ns/eight on node c with 10.0.0.8/32, fd00::4/128, if its host still runs\n"},
	} {
		plan, err := audit.Read(snap).ReleaseAddress(netip.MustParseAddr(c.addr), c.force, noon)
		have := planText(plan)
		if err != nil {
			have = err.Error()
		}
		if diff := cmp.Diff(c.want, have); diff != "" {
			t.Errorf("%s, force %v: %s", c.addr, c.force, diff)
		}
	}
}
