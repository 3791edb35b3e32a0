// SPDX-License-Identifier: Apache-2.0

package policytest

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"korat/api"
	"korat/policy"
	"korat/policy/compile"
)

// Golden is a case in a txtar file: manifests, with what they come to behind them. A line of the comment says what else
// a Compiler is told:
//
//	options: IPv6 drop accept reject loops loops-reject failsafes   the families are IPv4 alone, or with IPv6 both
//	groups: NAME=OTHER...   the kernel can match the groups of interfaces. These have those that they are to have, but those named
//	                        that of another interface, or, of none, none
//	pools: CIDR nat:CIDR... pods' addresses, of which some are translated
type Golden struct {
	File    string
	Archive *txtar.Archive
	Options compile.Options
	Objects []api.Object
	// Groups are the interfaces with groups that are not as they should be.
	Groups map[string]string
}

// ReadGolden reads a case.
func ReadGolden(tb testing.TB, file string) Golden {
	tb.Helper()
	archive, err := txtar.ParseFile(file)
	if err != nil || len(archive.Files) == 0 {
		tb.Fatalf("%s: no manifests: %v", file, err)
	}
	g := Golden{File: file, Archive: archive}
	g.Options = options(tb, g.Words("options:"))
	g.Objects = Objects(tb, archive.Files[0].Data)
	for _, w := range g.Words("pools:") {
		cidr, nat := strings.CutPrefix(w, "nat:")
		g.Options.Pools = append(g.Options.Pools, policy.Pool{Prefix: netip.MustParsePrefix(cidr), NATOutgoing: nat})
	}
	if words, said := g.words("groups:"); said {
		g.Options.Groups, g.Groups = true, map[string]string{}
		for _, w := range words {
			name, other, _ := strings.Cut(w, "=")
			g.Groups[name] = other
		}
	}
	return g
}

// Compile gives the Compiler that has been told everything.
func (g Golden) Compile(tb testing.TB) *compile.Compiler {
	tb.Helper()
	c := compile.New(g.Options)
	Feed(tb, c, g.Objects)
	if c.Update().Empty() {
		tb.Errorf("%s: the first update has no changes", g.File)
	}
	if !g.Options.Groups {
		return c
	}
	for _, obj := range g.Objects {
		if w, ok := obj.(*api.WorkloadEndpoint); ok && g.Groups[w.Spec.InterfaceName] == "" {
			c.SetGroup(w.Spec.InterfaceName, c.Group(w.Spec.InterfaceName))
		}
	}
	for name, other := range g.Groups {
		c.SetGroup(name, c.Group(other))
	}
	c.Update()
	return c
}

// Words gives what follows a word at the beginning of a line of the comment.
func (g Golden) Words(first string) []string {
	words, _ := g.words(first)
	return words
}

func (g Golden) words(first string) (words []string, said bool) {
	for line := range strings.Lines(string(g.Archive.Comment)) {
		if rest, found := strings.CutPrefix(line, first); found {
			return strings.Fields(rest), true
		}
	}
	return nil, false
}

func options(tb testing.TB, words []string) compile.Options {
	tb.Helper()
	o := compile.Options{Families: []api.Family{api.IPv4}}
	for _, w := range words {
		switch w {
		case "IPv6":
			o.Families = api.Families()
		case "drop":
			o.ToHost = compile.ToHostDrop
		case "accept":
			o.ToHost = compile.ToHostAccept
		case "reject":
			o.Reject = true
		case "failsafes":
			o.FailsafeIn = []compile.Failsafe{
				{Protocol: policy.TCP, Port: 22},
				{Protocol: policy.UDP, Port: 68},
				{Protocol: policy.TCP, Port: 179},
				{Protocol: policy.TCP, Port: 6443, Net: netip.MustParsePrefix("10.0.0.0/8")},
			}
			o.FailsafeOut = []compile.Failsafe{
				{Protocol: policy.UDP, Port: 53},
				{Protocol: policy.TCP, Port: 179},
				{Protocol: policy.TCP, Port: 2379, Net: netip.MustParsePrefix("fd00::/64")},
			}
		case "loops-reject":
			o.RejectLoops = true
		case "loops":
			o.ServiceCIDRs = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12"), netip.MustParsePrefix("fd00:96::/112")}
		default:
			tb.Fatalf("unknown option %q", w)
		}
	}
	return o
}
