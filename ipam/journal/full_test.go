// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// full is a file on a disk that is full after some bytes more, and that may refuse to shrink.
type full struct {
	*os.File
	left     int
	truncate error
}

func (f *full) WriteAt(b []byte, off int64) (int, error) {
	if len(b) <= f.left {
		f.left -= len(b)
		return f.File.WriteAt(b, off)
	}
	n, err := f.File.WriteAt(b[:f.left], off)
	f.left = 0
	return n, errors.Join(err, syscall.ENOSPC)
}

func (f *full) Truncate(size int64) error {
	if f.truncate != nil {
		return f.truncate
	}
	return f.File.Truncate(size)
}

// TestFullAtEveryByte: a write that stops anywhere leaves file and map as they were.
func TestFullAtEveryByte(t *testing.T) {
	for _, truncate := range []error{nil, syscall.EIO} {
		for left := range 40 {
			path := filepath.Join(t.TempDir(), "j")
			j := open(t, path)
			put(t, j, "a", "1")
			disk := &full{File: j.file.(*os.File), left: left, truncate: truncate}
			j.file = disk
			before, size := j.All(), j.Status().Bytes
			for _, err := range []error{j.Put("b", pod{Name: "2"}), j.Put("a", pod{Name: "2"}), j.Delete("a")} {
				if err == nil || !strings.Contains(err.Error(), path) {
					t.Fatalf("%d bytes left: %v", left, err)
				}
			}
			if diff := cmp.Diff(before, j.All()); diff != "" {
				t.Fatalf("%d bytes left: %s", left, diff)
			}
			if err := j.Err(); err == nil || !strings.Contains(err.Error(), path) {
				t.Fatalf("%d bytes left: Err gives %v", left, err)
			}
			if info, err := os.Stat(path); truncate == nil && (err != nil || info.Size() != size) {
				t.Fatalf("%d bytes left: half a line remains: %d bytes, want %d, %v", left, info.Size(), size, err)
			}
			disk.left, disk.truncate = 1<<20, nil
			put(t, j, "c", "3")
			if err := j.Err(); err != nil {
				t.Fatalf("room again: %v", err)
			}
			j.Close()
			if again := open(t, path); names(again.All()) != "a=1 c=3" || len(again.Status().Damage) > 0 {
				t.Fatalf("%d bytes left: reopened: %v %v", left, again.All(), again.Status().Damage)
			}
		}
	}
}

// TestFullTmpfs does the same on a real tmpfs, mounted where only this test's thread sees it.
func TestFullTmpfs(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root; TestFullAtEveryByte needs none")
	}
	dir := t.TempDir()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread and its mounts end with the goroutine
		done <- fillTmpfs(dir)
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func fillTmpfs(dir string) error {
	if err := syscall.Unshare(syscall.CLONE_FS | syscall.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=16k"); err != nil {
		return fmt.Errorf("mount tmpfs: %w", err)
	}
	path := filepath.Join(dir, "j")
	j, err := Open[pod](path)
	if err != nil {
		return err
	}
	want := map[string]pod{}
	for i := 0; err == nil && i < 10000; i++ {
		key, p := fmt.Sprint("k", i), pod{Name: fmt.Sprint("pod-", i)}
		if err = j.Put(key, p); err == nil {
			want[key] = p
		}
	}
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "free space") {
		return fmt.Errorf("filled: have error %w, want ENOSPC with path and remedy", err)
	}
	if err := j.Close(); err != nil {
		return err
	}
	again, err := Open[pod](path)
	if err != nil {
		return err
	}
	if diff := cmp.Diff(want, again.All()); diff != "" || len(again.Status().Damage) > 0 {
		return fmt.Errorf("after filling: %s %v", diff, again.Status().Damage)
	}
	return again.Close()
}
