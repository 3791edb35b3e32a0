// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

// TestRead lays files into a folder and reads them; the expected value is each object's source and key,
// or the error.
func TestRead(t *testing.T) {
	const files = `
-- pools.yaml --
# two documents
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: a}
spec: {cidr: 10.0.0.0/16}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: b}
spec: {cidr: 10.1.0.0/16}
-- list.json --
{"apiVersion": "v1", "kind": "List", "items": [
  {"apiVersion": "projectcalico.org/v3", "kind": "Node", "metadata": {"name": "n"}}]}
-- again.yml --
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: a}
spec: {cidr: 10.0.0.0/16}
-- bad.yaml --
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: a}
spec: {cidr: 10.0.0.0/16, colour: red}
---
apiVersion: projectcalico.org/v3
kind: BGPFilter
metadata: {name: t}
-- comment.yaml --
# nothing here
---
-- folder/deep/n.yaml --
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: deep}
-- folder/m.json --
{"apiVersion": "projectcalico.org/v3", "kind": "Node", "metadata": {"name": "shallow"}}
-- policies.yaml --
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web}
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
---
apiVersion: projectcalico.org/v3
kind: Tier
metadata: {name: t}
-- policies-again.yaml --
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: ns}
-- folder/README --
not a manifest
-- empty/README --
not a manifest
`
	dir := t.TempDir()
	for _, f := range txtar.Parse([]byte(files)).Files {
		path := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		paths     string
		recursive bool
		want      string
	}{
		{paths: "pools.yaml", want: "pools.yaml IPPool/a\npools.yaml IPPool/b\n"},
		{paths: "list.json pools.yaml", want: "list.json Node/n\npools.yaml IPPool/a\npools.yaml IPPool/b\n"},
		{paths: "folder", want: "folder/m.json Node/shallow\n"},
		{paths: "folder", recursive: true, want: "folder/deep/n.yaml Node/deep\nfolder/m.json Node/shallow\n"},
		{paths: "policies.yaml", want: "policies.yaml KubernetesNetworkPolicy/ns/web\npolicies.yaml NetworkPolicy/shop/web\npolicies.yaml Tier/t\n"},
		{paths: "policies.yaml policies-again.yaml", want: "policies-again.yaml: KubernetesNetworkPolicy/ns/web is given twice, first in policies.yaml: remove one"},
		{paths: "-", want: "stdin Node/piped\n"},
		{paths: "pools.yaml again.yml", want: "again.yml: IPPool/a is given twice, first in pools.yaml: remove one"},
		{
			paths: "bad.yaml", want: "bad.yaml: document 1: IPPool/a: spec.colour: unknown or not supported by korat\n" +
				`bad.yaml: document 2: BGPFilter/t: kind "BGPFilter" is not supported by korat: use one of `,
		},
		{paths: "comment.yaml", want: "comment.yaml: holds no object"},
		{paths: "absent.yaml", want: "stat absent.yaml: no such file or directory"},
		{paths: "empty", want: "folder empty holds no *.yaml, *.yml or *.json (its folders count only with --recursive)"},
	} {
		t.Run(tc.paths, func(t *testing.T) {
			t.Chdir(dir)
			items, err := Read(Input{
				Paths: strings.Fields(tc.paths), Recursive: tc.recursive,
				Stdin:     strings.NewReader(`{"apiVersion": "projectcalico.org/v3", "kind": "Node", "metadata": {"name": "piped"}}`),
				Namespace: "ns",
			})
			var have strings.Builder
			for _, it := range items {
				have.WriteString(it.Source + " " + it.Object.Key().String() + "\n")
			}
			if err != nil {
				have.Reset()
				have.WriteString(err.Error())
			}
			if diff := cmp.Diff(tc.want, have.String()[:min(have.Len(), len(tc.want))]); diff != "" {
				t.Errorf("have (+) is not want (-):\n%s", diff)
			}
		})
	}
}
