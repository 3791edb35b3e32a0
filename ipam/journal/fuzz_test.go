// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzReplay opens a journal of arbitrary bytes: it never panics, it can be written on, and what
// it had is what the next opening finds.
func FuzzReplay(f *testing.F) {
	good := []byte(`{"seq":1,"key":"a","value":{"name":"1"},"crc":"298e4bd8"}` + "\n" + `{"seq":2,"key":"a","deleted":true,"crc":"98c6ac55"}` + "\n")
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(good[:70])
	f.Add(append([]byte("\n\n{}\nnull\n"), good...))
	f.Add([]byte(`{"seq":{"seq":,"crc":","crc":"00000000"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "j")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		j := open(t, path)
		if err := j.Put("new", pod{Name: "x"}); err != nil {
			t.Fatal(err)
		}
		want := j.All()
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, open(t, path).All()); diff != "" {
			t.Error(diff)
		}
	})
}
