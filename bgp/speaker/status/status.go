// SPDX-License-Identifier: Apache-2.0

// Package status is what the speaker process tells about its sessions beside GoBGP's API, which
// knows neither why a session is down nor how often it was lost. The process writes a small JSON
// file, its client and its supervisor read it.
package status

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strings"
	"time"
)

// File is the content of the status file.
type File struct {
	// PID is the speaker process that wrote the file.
	PID int `json:"pid"`
	// Peers by neighbour address.
	Peers map[netip.Addr]Peer `json:"peers"`
}

// Peer is what is known of one neighbour since the process started.
type Peer struct {
	// Reason says why the session is down, or is empty while it is up.
	Reason string `json:"reason,omitempty"`
	// Up and Down are when it was last established and lost; zero for never.
	Up   time.Time `json:"up,omitzero"`
	Down time.Time `json:"down,omitzero"`
	// Flaps counts losses of an established session.
	Flaps uint32 `json:"flaps,omitempty"`
}

// Read reads the file. A file that is not there is an empty one.
func Read(path string) (File, error) {
	var f File
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return f, fmt.Errorf("read speaker status: %w", err)
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return File{}, fmt.Errorf("read speaker status %s: %w", path, err)
	}
	return f, nil
}

// Write replaces the file in one step, so that a reader sees the old or the new content.
func Write(path string, f File) error {
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return fmt.Errorf("write speaker status: %w", err)
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write speaker status: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write speaker status: %w", err)
	}
	return nil
}

// WriteLastUp records which session came up last. It goes into a small file of its own because it
// must be on disk before the session's first message is read: if that message crashes the process,
// it is the evidence.
func WriteLastUp(path string, peer netip.Addr) error {
	if err := os.WriteFile(lastUpPath(path), []byte(peer.String()+"\n"), 0o600); err != nil {
		return fmt.Errorf("write last established session: %w", err)
	}
	return nil
}

// ReadLastUp gives the session that came up last, or the zero Addr.
func ReadLastUp(path string) netip.Addr {
	b, err := os.ReadFile(lastUpPath(path))
	if err != nil {
		return netip.Addr{}
	}
	addr, err := netip.ParseAddr(strings.TrimSpace(string(b)))
	if err != nil {
		return netip.Addr{}
	}
	return addr
}

// RemoveLastUp forgets it.
func RemoveLastUp(path string) error {
	if err := os.Remove(lastUpPath(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget last established session: %w", err)
	}
	return nil
}

func lastUpPath(path string) string { return path + ".last-up" }
