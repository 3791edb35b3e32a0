// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"korat/api"
)

// TestKinds compares the page's table of kinds with those that there are.
func TestKinds(t *testing.T) {
	var want strings.Builder
	for _, kind := range api.Kinds() {
		info, _ := kind.Info()
		cells := []string{string(kind), strings.ReplaceAll(info.Aliases, " ", ", "), "", info.APIVersion}
		if info.Namespaced {
			cells[2] = "yes"
		}
		if info.Manifest != string(kind) {
			cells[3] += ", " + info.Manifest
		}
		want.WriteString(strings.ReplaceAll("| "+strings.Join(cells, " | ")+" |\n", "  ", " "))
	}
	table := regexp.MustCompile(`(?s)\n## Kinds\n\n[^\n]*\n[^\n]*\n(.*?\n)\n`).FindStringSubmatch(read(t, "docs/koratctl.md"))
	if table == nil {
		t.Fatal("docs/koratctl.md has no table of kinds")
	}
	if diff := cmp.Diff(want.String(), table[1]); diff != "" {
		t.Errorf("kinds that docs/koratctl.md lacks (-) or has too many (+):\n%s", diff)
	}
}

// TestManifests decodes, defaults and validates the manifests of every page, each page's in its order: they have to be
// accepted, and there have to be examples of the kinds that people write policies with.
func TestManifests(t *testing.T) {
	block := regexp.MustCompile("(?s)\n```(?:yaml)?\n(apiVersion: .*?)\n```\n")
	examples := map[api.Kind]bool{}
	err := filepath.WalkDir(filepath.Join(root, "docs"), func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".md" {
			return err
		}
		page, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		snap := api.Snapshot{InSync: true}
		for _, m := range block.FindAllStringSubmatch(read(t, page), -1) {
			objs, err := api.Decode([]byte(m[1]))
			if err != nil {
				t.Errorf("%s: %v", page, err)
			}
			for _, obj := range objs {
				api.Default(obj)
				if err := api.Validate(obj); err != nil {
					t.Errorf("%s: %v", page, err)
				} else if err := api.ValidateChange(nil, obj, snap); err != nil {
					t.Errorf("%s: %v", page, err)
				}
				snap = snap.With(obj)
				examples[obj.Key().Kind] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []api.Kind{
		api.KindTier, api.KindProfile, api.KindNetworkPolicy, api.KindGlobalNetworkPolicy, api.KindStagedNetworkPolicy,
		api.KindNetworkSet, api.KindGlobalNetworkSet, api.KindHostEndpoint, api.KindKubernetesNetworkPolicy,
		api.KindClusterNetworkPolicy,
	} {
		if !examples[kind] {
			t.Errorf("no page has an example of %s", kind)
		}
	}
}
