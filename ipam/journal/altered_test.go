// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAlteredWhileOpen: whatever others do to the file, the next change brings it back.
func TestAlteredWhileOpen(t *testing.T) {
	for name, alter := range map[string]func(path string) error{
		"cut":     func(path string) error { return os.Truncate(path, 20) },
		"emptied": func(path string) error { return os.Truncate(path, 0) },
		"removed": os.Remove,
		"overlaid": func(path string) error {
			return errors.Join(os.Remove(path), os.WriteFile(path, []byte("hello\n"), 0o600))
		},
		"written to": func(path string) error { return appendTo(path, "hello\n") },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "j")
			j := open(t, path)
			put(t, j, "a", "1")
			put(t, j, "b", "2")
			if err := alter(path); err != nil {
				t.Fatal(err)
			}
			if err := j.Delete("a"); err != nil {
				t.Fatal(err)
			}
			put(t, j, "c", "3")
			if err := j.Err(); err == nil || !strings.Contains(err.Error(), "changed by others while it was in use") {
				t.Errorf("Err gives %v", err)
			}
			if _, err := Open[pod](path); !errors.Is(err, ErrLocked) {
				t.Errorf("another one opens it: %v", err)
			}
			j.Close()
			again := open(t, path)
			if have := names(again.All()); have != "b=2 c=3" || len(again.Status().Damage) > 0 || again.Err() != nil {
				t.Errorf("reopened: %s, damage %v, %v", have, again.Status().Damage, again.Err())
			}
		})
	}
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// TestReplacedByAnotherAgents: the file that took the place may be another agent's.
func TestReplacedByAnotherAgents(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j := open(t, path)
	put(t, j, "a", "1")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	other := open(t, path)
	put(t, other, "b", "2")
	if err := j.Put("c", pod{Name: "3"}); !errors.Is(err, ErrLocked) || names(j.All()) != "a=1" {
		t.Errorf("have %v, %v", err, j.All())
	}
	put(t, other, "d", "4")
	other.Close()
	if have := names(open(t, path).All()); have != "b=2 d=4" {
		t.Errorf("the other's has %s", have)
	}
}

// TestDamageIsToldOnce: what was damaged is written anew, so that the next one to open it finds nothing.
func TestDamageIsToldOnce(t *testing.T) {
	data, _ := sample(t)
	data[len(data)/2] ^= 1
	path := filepath.Join(t.TempDir(), "j")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	j := open(t, path)
	want := names(j.All())
	if err := j.Err(); err == nil || !strings.Contains(err.Error(), path+" was damaged when it was opened") {
		t.Errorf("Err gives %v", err)
	}
	j.Close()
	again := open(t, path)
	if names(again.All()) != want || again.Err() != nil || len(again.Status().Damage) > 0 {
		t.Errorf("opened again: %v, %v, %v", again.All(), again.Err(), again.Status().Damage)
	}
}
