// SPDX-License-Identifier: Apache-2.0

// Package docs holds the documentation against the programs: every flag has its line and every line its
// flag, the samples in deploy/ are accepted, and no link leads nowhere.
package docs

import (
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	cniplugin "korat/cni-plugin"
)

// root is the module's folder.
const root = "../.."

// TestFlags compares the flags in a page's tables with those in the program's --help.
func TestFlags(t *testing.T) {
	for _, tc := range []struct{ page, command string }{
		{"docs/configuration.md", "korat-node run"},
		{"docs/koratctl.md", "koratctl"},
	} {
		t.Run(tc.page, func(t *testing.T) {
			row := regexp.MustCompile("(?m)^\\| (`--[^|]*) \\|")
			documented := map[string]bool{}
			for _, m := range row.FindAllStringSubmatch(read(t, tc.page), -1) {
				for _, name := range regexp.MustCompile("--([a-z0-9-]+)").FindAllStringSubmatch(m[1], -1) {
					documented[name[1]] = true
				}
			}
			if diff := cmp.Diff(flags(t, tc.command), slices.Sorted(maps.Keys(documented))); diff != "" {
				t.Errorf("flags of %s that %s lacks (-) or has too many (+):\n%s", tc.command, tc.page, diff)
			}
		})
	}
}

// TestSamples checks the sample configurations against the programs that read them.
func TestSamples(t *testing.T) {
	known := map[string][]string{"korat-node": flags(t, "korat-node run"), "koratctl": flags(t, "koratctl")}
	for file, command := range map[string]string{
		"deploy/systemd/korat-node.yaml": "korat-node", "deploy/systemd/korat-node-embedded.yaml": "korat-node", "deploy/systemd/koratctl.yaml": "koratctl",
	} {
		var sample map[string]any
		if err := yaml.UnmarshalStrict([]byte(read(t, file)), &sample); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		for key := range sample {
			if !slices.Contains(known[command], key) {
				t.Errorf("%s: %s has no flag --%s", file, command, key)
			}
		}
	}
	var list struct {
		CNIVersion string           `json:"cniVersion"`
		Name       string           `json:"name"`
		Plugins    []map[string]any `json:"plugins"`
	}
	file := "deploy/systemd/10-korat.conflist"
	if err := json.Unmarshal([]byte(read(t, file)), &list); err != nil || len(list.Plugins) != 1 {
		t.Fatalf("%s: %d plugins, %v", file, len(list.Plugins), err)
	}
	// A runtime hands the plugin its entry, with the list's version and name.
	list.Plugins[0]["cniVersion"], list.Plugins[0]["name"] = list.CNIVersion, list.Name
	conf, err := json.Marshal(list.Plugins[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cniplugin.ParseConfig(conf); err != nil {
		t.Errorf("%s: %v", file, err)
	}
}

// TestLinks follows every relative link of every page.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)[^):]*\)`)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".md" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s: link to %s: %v", path, m[1], err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// flags gives the names of a command's flags, in order.
func flags(t *testing.T, command string) []string {
	words := strings.Fields(command)
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"run", "./cmd/" + words[0]}, append(words[1:], "--help")...)...)
	cmd.Dir = root
	help, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s --help: %v\n%s", command, err, help)
	}
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^ +(?:-\w, )?--([a-z0-9-]+)`).FindAllStringSubmatch(string(help), -1) {
		if m[1] != "help" {
			names = append(names, m[1])
		}
	}
	slices.Sort(names)
	return names
}

func read(t *testing.T, name string) string {
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
