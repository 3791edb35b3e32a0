// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"korat/api"
	"korat/policy/chain"
	"korat/policy/compile"
	"korat/policy/policytest"
)

// TestGolden compiles the manifests of each file in testdata, and compares the chains and sets. UPDATE_GOLDEN=1
// rewrites these. A line of the comment says which to show:
//
//	show: PREFIX...   only chains whose names begin so; else all but the frame
//
// felix/kernel has iptables read what each of them comes to.
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
	g := policytest.ReadGolden(t, file)
	c := g.Compile(t)
	archive := *g.Archive
	archive.Files = []txtar.File{
		archive.Files[0],
		{Name: "chains", Data: []byte(policytest.Chains(c.Chains(), shown(g.Words("show:"))))},
	}
	if sets := policytest.Sets(c); sets != "" {
		archive.Files = append(archive.Files, txtar.File{Name: "sets", Data: []byte(sets)})
	}
	have := txtar.Format(&archive)
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) == string(want) {
		return
	}
	if os.Getenv("UPDATE_GOLDEN") == "" {
		t.Fatalf("have:\n%s\nwant:\n%s", have, want)
	}
	if err := os.WriteFile(file, have, 0o644); err != nil {
		t.Fatal(err)
	}
}

func shown(prefixes []string) func(chain.Key) bool {
	frame := compile.New(compile.Options{Families: api.Families()})
	frame.Update()
	return func(key chain.Key) bool {
		if len(prefixes) == 0 {
			return frame.Chains()[key] == nil || strings.Contains(key.Name, "dispatch")
		}
		return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(key.Name, p) })
	}
}
