// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"korat/api"
	"korat/policy"
	"korat/policy/chain"
	"korat/policy/compile"
)

// TestGolden compiles the manifests of each file in testdata for node n1, and compares the chains and sets.
// UPDATE_GOLDEN=1 rewrites these. A line of the comment says what to do and to show:
//
//	options: IPv6 drop accept reject loops failsafes   the families are IPv4 alone, or with IPv6 both
//	show: PREFIX...                           only chains whose names begin so; else all but the frame
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { golden(t, file) })
	}
}

func golden(t *testing.T, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil || len(archive.Files) == 0 {
		t.Fatalf("%s: no manifests: %v", file, err)
	}
	c := compile.New(options(t, words(archive, "options:")))
	feed(c, objects(t, archive.Files[0].Data))
	if c.Update().Empty() {
		t.Error("the first update has no changes")
	}
	have := []txtar.File{
		archive.Files[0],
		{Name: "chains", Data: []byte(text(c.Chains(), shown(words(archive, "show:"))))},
		{Name: "sets", Data: []byte(setText(c))},
	}
	if len(have[2].Data) == 0 {
		have = have[:2]
	}
	archive.Files = append(archive.Files[:1:1], have[1:]...)
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(txtar.Format(archive)) == string(want) {
		return
	}
	if os.Getenv("UPDATE_GOLDEN") == "" {
		t.Fatalf("have:\n%s\nwant:\n%s", txtar.Format(archive), want)
	}
	if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
		t.Fatal(err)
	}
}

// words gives what follows a word at the beginning of a line of the comment.
func words(archive *txtar.Archive, first string) []string {
	for line := range strings.Lines(string(archive.Comment)) {
		if rest, found := strings.CutPrefix(line, first); found {
			return strings.Fields(rest)
		}
	}
	return nil
}

func options(t *testing.T, words []string) compile.Options {
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
		case "loops":
			o.ServiceCIDRs = prefixes("10.96.0.0/12", "fd00:96::/112")
		default:
			t.Fatalf("unknown option %q", w)
		}
	}
	return o
}

func shown(prefixes []string) func(chain.Key) bool {
	frame := compile.New(compile.Options{Families: api.Families(), ServiceCIDRs: nil})
	frame.Update()
	return func(key chain.Key) bool {
		if len(prefixes) == 0 {
			return frame.Chains()[key] == nil || strings.Contains(key.Name, "dispatch")
		}
		return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(key.Name, p) })
	}
}
