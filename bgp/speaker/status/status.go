// SPDX-License-Identifier: Apache-2.0

// Package status is what the speaker process tells about its sessions beside GoBGP's API, which
// knows neither why a session is down nor how often it was lost, and what it knows of earlier ends of
// itself. The process writes small JSON files, its client reads them. crash.go has the crashes.
package status

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
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
	if err := read(path, &f); err != nil {
		return File{}, fmt.Errorf("read speaker status: %w", err)
	}
	return f, nil
}

// read leaves the content as it is when there is no file.
func read(path string, content any) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, content); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// Write replaces the file in one step, so that a reader sees the old or the new content.
func Write(path string, f File) error {
	if err := replace(path, f); err != nil {
		return fmt.Errorf("write speaker status: %w", err)
	}
	return nil
}

func replace(path string, content any) error {
	b, err := json.MarshalIndent(content, "", "  ")
	if err != nil {
		return err
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
