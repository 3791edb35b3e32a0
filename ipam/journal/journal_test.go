// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// pod is a value as the CNI record has them.
type pod struct {
	Name string   `json:"name"`
	IPs  []string `json:"ips,omitempty"`
	CRC  string   `json:"crc,omitempty"`
}

func open(t *testing.T, path string) *Journal[pod] {
	t.Helper()
	j, err := Open[pod](path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func put(t *testing.T, j *Journal[pod], key, name string) {
	t.Helper()
	if err := j.Put(key, pod{Name: name}); err != nil {
		t.Fatal(err)
	}
}

// names shows a journal as "key=name …".
func names(all map[string]pod) string {
	var s []string
	for _, key := range slices.Sorted(maps.Keys(all)) {
		s = append(s, key+"="+all[key].Name)
	}
	return strings.Join(s, " ")
}

func TestSurvivesReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j := open(t, path)
	put(t, j, "a", "1")
	put(t, j, "b", "2")
	put(t, j, "a", "3")
	put(t, j, "c\n\"", "4")
	for _, key := range []string{"b", "b", "never"} {
		if err := j.Delete(key); err != nil {
			t.Fatal(err)
		}
	}
	want := j.All()
	if have := names(want); have != "a=3 c\n\"=4" {
		t.Fatalf("have %s", have)
	}
	j.Close()
	again := open(t, path)
	if diff := cmp.Diff(want, again.All()); diff != "" {
		t.Error(diff)
	}
	if s := again.Status(); s.Records != 2 || len(s.Damage) > 0 || s.Path != path {
		t.Errorf("status %+v", s)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v: want 0600", info.Mode(), err)
	}
}

func TestLineFormat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j := open(t, path)
	put(t, j, "a", "1")
	if err := j.Delete("a"); err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile(path)
	want := `{"seq":1,"key":"a","value":{"name":"1"},"crc":"298e4bd8"}
{"seq":2,"key":"a","deleted":true,"crc":"98c6ac55"}
`
	if diff := cmp.Diff(want, string(have)); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

func TestOneAgentAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j := open(t, path)
	for range 2 {
		_, err := Open[pod](path)
		if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "another agent") {
			t.Fatalf("second open: %v", err)
		}
		if err := j.compact(); err != nil { // the lock moves to the new file
			t.Fatal(err)
		}
	}
	j.Close()
	open(t, path)
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	link, fifo := filepath.Join(dir, "link"), filepath.Join(dir, "fifo")
	if err := errors.Join(os.Symlink(filepath.Join(dir, "x"), link), syscall.Mkfifo(fifo, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, link, fifo, filepath.Join(dir, "none", "j")} {
		if _, err := Open[pod](path); err == nil || !strings.Contains(err.Error(), "open journal "+path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "x")); err == nil {
		t.Error("a symbolic link was followed")
	}
	j := open(t, filepath.Join(dir, "j"))
	if err := j.Put("\xff", pod{}); err == nil {
		t.Error("a key that JSON can't hold was accepted")
	}
}

// sample is a file of ten records with its state after each line.
func sample(t *testing.T) (data []byte, states []string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sample")
	j := open(t, path)
	states = append(states, "")
	for i := range 10 {
		if i%4 == 3 {
			if err := j.Delete(fmt.Sprint("k", i-2)); err != nil {
				t.Fatal(err)
			}
		} else if err := j.Put(fmt.Sprint("k", i), pod{Name: fmt.Sprint(i), IPs: []string{"10.0.0.1"}, CRC: "00000000"}); err != nil {
			t.Fatal(err)
		}
		states = append(states, names(j.All()))
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data, states
}

func TestTruncatedAtEveryByte(t *testing.T) {
	data, states := sample(t)
	path := filepath.Join(t.TempDir(), "j")
	for n := range len(data) + 1 {
		if err := os.WriteFile(path, data[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		j := open(t, path)
		lines := bytes.Count(data[:n], []byte{'\n'})
		torn := n > 0 && data[n-1] != '\n'
		if torn && data[n] == '\n' {
			lines, torn = lines+1, false // only the newline is missing
		}
		if have := names(j.All()); have != states[lines] {
			t.Fatalf("cut at %d: have %q, want %q", n, have, states[lines])
		}
		if d := j.Status().Damage; len(d) > 1 || torn != (len(d) == 1 && d[0].Torn) {
			t.Fatalf("cut at %d: torn %v, reported %v", n, torn, d)
		}
		put(t, j, "new", "x")
		want := j.All()
		j.Close()
		again := open(t, path)
		if diff := cmp.Diff(want, again.All()); diff != "" || len(again.Status().Damage) > 0 {
			t.Fatalf("cut at %d, written on and reopened: %s %v", n, diff, again.Status().Damage)
		}
		again.Close()
	}
}

// TestFlippedByte damages each byte in turn: only the record that it belongs to may be lost, none if
// it is a newline, and the loss is reported.
func TestFlippedByte(t *testing.T) {
	data, _ := sample(t)
	records := replay(data).records
	for i := range data {
		for _, flip := range []byte{0x01, 0x80, data[i] ^ '\n'} {
			if flip == 0 {
				continue
			}
			spoilt := slices.Clone(data)
			spoilt[i] ^= flip
			r := replay(spoilt)
			line := bytes.Count(data[:i], []byte{'\n'})
			var want, have []uint64
			for n, rec := range records {
				if n != line || data[i] == '\n' {
					want = append(want, rec.Sequence)
				}
			}
			for _, rec := range r.records {
				have = append(have, rec.Sequence)
			}
			if !slices.Equal(want, have) || len(r.damage) == 0 {
				t.Fatalf("byte %d of line %d ^ %#x: have records %v, want %v; damage %v", i, line, flip, have, want, r.damage)
			}
		}
	}
}

func TestDamageIsReported(t *testing.T) {
	data, _ := sample(t)
	lines := bytes.SplitAfter(data, []byte{'\n'})
	join := func(l ...[]byte) []byte { return bytes.Join(l, nil) }
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"garbage":    {join(lines[0], []byte("hello\n"), lines[1]), "5 bytes at offset 95: not a record"},
		"missing":    {join(lines[0], lines[2]), "0 bytes at offset 95: records 2 to 2 are missing"},
		"repeated":   {join(lines[0], lines[1], lines[0]), "95 bytes at offset 190: record 1 comes after record 2"},
		"wrong type": {join(lines[0], mustEncode(t, record{Sequence: 2, Key: "k0", Value: []byte(`7`)})), `48 bytes at offset 95: key "k0": json: cannot unmarshal number into Go value of type journal.pod`},
		"torn":       {join(lines[0], lines[1][:20]), "20 bytes at offset 95: the last line is incomplete"},
	} {
		path := filepath.Join(t.TempDir(), "j")
		if err := os.WriteFile(path, c.data, 0o600); err != nil {
			t.Fatal(err)
		}
		j := open(t, path)
		d := j.Status().Damage
		if len(d) != 1 || d[0].String() != c.want {
			t.Errorf("%s: have %v, want %s", name, d, c.want)
		}
		if j.All()["k0"].Name != "0" {
			t.Errorf("%s: the record before the damage is lost", name)
		}
	}
}

func mustEncode(t *testing.T, rec record) []byte {
	t.Helper()
	b, err := encode(rec)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCompaction(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j := open(t, path)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 20000 {
		key := fmt.Sprint("k", r.IntN(50))
		if r.IntN(3) == 0 {
			if err := j.Delete(key); err != nil {
				t.Fatal(err)
			}
		} else {
			put(t, j, key, fmt.Sprint(i))
		}
	}
	s := j.Status()
	info, err := os.Stat(path)
	if err != nil || info.Size() != s.Bytes || s.Bytes > 2*minCompaction || s.Compaction != nil {
		t.Fatalf("file has %d bytes, status %+v, %v", info.Size(), s, err)
	}
	if _, err := os.Stat(path + ".new"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the new file was left: %v", err)
	}
	want := j.All()
	j.Close()
	again := open(t, path)
	if diff := cmp.Diff(want, again.All()); diff != "" || len(again.Status().Damage) > 0 || again.Status().Live != s.Live {
		t.Error(diff, again.Status(), s)
	}
}

// TestCompactionFails: a rewriting that can't be finished leaves the old file in use.
func TestCompactionFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j := open(t, path)
	if err := os.Mkdir(path+".new", 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range 3000 {
		put(t, j, "k", fmt.Sprint(i))
	}
	if s := j.Status(); s.Compaction == nil || s.Bytes < minCompaction {
		t.Fatalf("status %+v", s)
	}
	if err := os.Remove(path + ".new"); err != nil {
		t.Fatal(err)
	}
	for i := range 3000 {
		put(t, j, "k", fmt.Sprint(i))
	}
	if s := j.Status(); s.Compaction != nil || s.Bytes > minCompaction {
		t.Errorf("not rewritten later: %+v", s)
	}
	j.Close()
	if have := names(open(t, path).All()); have != "k=2999" {
		t.Errorf("have %s", have)
	}
}
