// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"sigs.k8s.io/yaml"
)

// TestDecode runs the scripts in testdata/manifests: "input" is decoded, defaulted and validated;
// "want" is the list of objects, or the error.
func TestDecode(t *testing.T) {
	files, err := filepath.Glob("testdata/manifests/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if len(archive.Files)%2 != 0 {
				t.Fatal("want pairs of input and want")
			}
			changed := false
			for i := 0; i < len(archive.Files); i += 2 {
				input, want := archive.Files[i], &archive.Files[i+1]
				have := decodeText(input.Data)
				if have == string(want.Data) {
					continue
				}
				if os.Getenv("UPDATE_GOLDEN") != "" {
					want.Data, changed = []byte(have), true
					continue
				}
				t.Errorf("%s:\nhave:\n%s\nwant:\n%s", input.Name, have, want.Data)
			}
			if changed {
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// decodeText says in words what came of some manifests.
func decodeText(data []byte) string {
	objs, err := Decode(data)
	if err != nil {
		return err.Error() + "\n"
	}
	var b strings.Builder
	var snap Snapshot
	for _, o := range objs {
		Default(o)
		if err := Validate(o); err != nil {
			fmt.Fprintln(&b, err)
			continue
		}
		old, _ := snap.Get(o.Key())
		if err := ValidateChange(old, o, snap); err != nil {
			fmt.Fprintln(&b, err)
			continue
		}
		snap = snap.With(o)
		fmt.Fprintf(&b, "%s ok\n", o.Key())
	}
	if len(objs) == 0 {
		return "nothing\n"
	}
	return b.String()
}

func TestDefault(t *testing.T) {
	var b strings.Builder
	for _, kind := range Kinds() {
		obj := New(kind)
		Default(obj)
		text, err := yaml.Marshal(obj)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "---\n%s", strings.ReplaceAll(string(text), "metadata: {}\n", ""))
		again := obj.DeepCopyObject()
		Default(again)
		if twice, _ := yaml.Marshal(again); string(twice) != string(text) {
			t.Errorf("defaulting %s twice differs:\n%s", kind, twice)
		}
	}
	const golden = "testdata/defaults.yaml"
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("have:\n%s\nwant:\n%s", b.String(), want)
	}
}

func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob("testdata/manifests/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for i := 0; i < len(archive.Files); i += 2 {
			f.Add(archive.Files[i].Data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		objs, err := Decode(data)
		if err != nil {
			if len(objs) != 0 {
				t.Fatalf("objects beside the error %v", err)
			}
			return
		}
		for _, obj := range objs {
			Default(obj)
			if err := Validate(obj); err != nil {
				continue
			}
			var wrong *FieldError
			if err := ValidateChange(nil, obj, Snapshot{}); err != nil && (!errors.As(err, &wrong) || wrong.Field != "spec.tier") {
				t.Errorf("valid object alone: %v", err)
			}
			text, err := yaml.Marshal(obj)
			if err != nil {
				t.Fatal(err)
			}
			again, err := Decode(text)
			if err != nil || len(again) != 1 || again[0].Key() != obj.Key() {
				t.Errorf("decode again: %v\n%s", err, text)
			}
		}
	})
}

// TestDecodeLeavesOut: what controllers keep in an object is not stored.
func TestDecodeLeavesOut(t *testing.T) {
	objs, err := Decode([]byte(`
apiVersion: projectcalico.org/v3
kind: Tier
metadata:
  name: security
  generateName: sec-
  labels: {team: a}
  finalizers: [projectcalico.org/tier-controller]
  managedFields: [{manager: kubectl, operation: Apply}]
  ownerReferences: [{apiVersion: v1, kind: Service, name: web, uid: u}]
spec: {order: 7}
status: {conditions: [{type: Ready}]}
`))
	if err != nil || len(objs) != 1 {
		t.Fatal(objs, err)
	}
	have, err := yaml.Marshal(objs[0])
	if err != nil {
		t.Fatal(err)
	}
	const want = `apiVersion: projectcalico.org/v3
kind: Tier
metadata:
  labels:
    team: a
  name: security
spec:
  order: 7
`
	if string(have) != want {
		t.Errorf("have:\n%s\nwant:\n%s", have, want)
	}
}
