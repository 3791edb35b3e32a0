// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestListenModes(t *testing.T) {
	path, _ := serve(t, newFake(answer(false)), nil)
	for name, want := range map[string]os.FileMode{path: os.ModeSocket | 0o600, filepath.Dir(path): os.ModeDir | 0o700} {
		info, err := os.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%s: have %v, want %v", name, info.Mode(), want)
		}
	}
}

func TestListenRefusals(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(t *testing.T, path string)
		want    string // part of the error; empty for success
	}{
		{"nothing there", func(*testing.T, string) {}, ""},
		{"left by a dead agent", func(t *testing.T, path string) {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
			if err != nil {
				t.Fatal(err)
			}
			l.SetUnlinkOnClose(false)
			_ = l.Close()
		}, ""},
		{"a live agent", func(t *testing.T, path string) {
			s, err := Listen(path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = s.Close() })
		}, "a live agent answers there"},
		{"a file", func(t *testing.T, path string) {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "is no socket"},
		{"a directory of another user", func(t *testing.T, path string) {
			chown(t, filepath.Dir(path))
		}, "may be written by others than root"},
		{"a queue of another user", func(t *testing.T, path string) {
			if err := os.Mkdir(filepath.Join(filepath.Dir(path), QueueDirectory), 0o700); err != nil {
				t.Fatal(err)
			}
			chown(t, filepath.Join(filepath.Dir(path), QueueDirectory))
		}, "may be written by others than root"},
		{"a link to a directory", func(t *testing.T, path string) { link(t, filepath.Dir(path)) }, ""},
		{"another user's link to a directory", func(t *testing.T, path string) {
			link(t, filepath.Dir(path))
			chown(t, filepath.Dir(path))
		}, "is a symbolic link that another user has made"},
		{"a link for a queue", func(t *testing.T, path string) {
			link(t, filepath.Join(filepath.Dir(path), QueueDirectory))
		}, "directory for queued DELs: open " /* O_NOFOLLOW */},
		{"a link for a socket", func(t *testing.T, path string) { link(t, path) }, "is no socket"},
		{"a directory for all", func(t *testing.T, path string) {
			if err := os.Chmod(filepath.Dir(path), 0o777); err != nil {
				t.Fatal(err)
			}
		}, "may be written by others than root"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(directory(t), "s")
			tt.prepare(t, path)
			s, err := Listen(path)
			switch {
			case tt.want == "" && err != nil:
				t.Fatal(err)
			case tt.want == "":
				_ = s.Close()
			case err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path):
				t.Errorf("have %v, want it to say %q and name the socket", err, tt.want)
			}
		})
	}
}

// link puts in a path's place a symbolic link to a directory that is good in itself.
func link(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(directory(t), path); err != nil {
		t.Fatal(err)
	}
}

// chown gives a path, itself even if it is a link, to another user.
func chown(t *testing.T, path string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away: make test runs this as root")
	}
	if err := os.Lchown(path, 65534, 65534); err != nil {
		t.Fatal(err)
	}
}

func TestPaths(t *testing.T) {
	for path, want := range map[string]string{
		"run/agent.sock":               "must be an absolute path",
		"":                             "must be an absolute path",
		"/" + strings.Repeat("x", 107): "at most 107",
	} {
		if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("listen on %q: have %v, want %q", path, err, want)
		}
		if _, err := Dial(t.Context(), path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("dial %q: have %v, want %q", path, err, want)
		}
	}
}

func TestDialWithoutAgent(t *testing.T) {
	path := filepath.Join(directory(t), "agent.sock")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Dial(ctx, path)
	var absent *Error
	if !errors.As(err, &absent) || absent.Code != CodeTryAgainLater || !strings.Contains(absent.Message, path) || !strings.Contains(absent.Message, "start korat-node") {
		t.Errorf("have %v, want code %d, the socket and the remedy", err, CodeTryAgainLater)
	}
}

func TestDialWaitsForTheAgent(t *testing.T) {
	path := filepath.Join(directory(t), "agent.sock")
	dialled := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		c, err := Dial(ctx, path)
		if err == nil {
			err = c.Close()
		}
		dialled <- err
	}()
	s, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := <-dialled; err != nil {
		t.Error(err)
	}
}
