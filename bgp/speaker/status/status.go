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

// CrashPath is where the process whose status file is path leaves the stack of a crash. The file is
// empty while the process lives and after an orderly end.
func CrashPath(path string) string { return path + ".crash" }

// PeerLabel is the goroutine label that names the neighbour whose messages a goroutine reads. The Go
// runtime prints labels in the stack of a crash (GODEBUG=tracebacklabels=1).
const PeerLabel = "peer"

// Crashed says whether the last process whose status file is path crashed, and while it read a
// message of which neighbour; culprit is the zero Addr when that is not known.
func Crashed(path string) (crashed bool, culprit netip.Addr, err error) {
	b, err := os.ReadFile(CrashPath(path))
	if errors.Is(err, fs.ErrNotExist) {
		return false, netip.Addr{}, nil
	}
	if err != nil {
		return false, netip.Addr{}, fmt.Errorf("read speaker's crash: %w", err)
	}
	return len(b) > 0, culpritOf(string(b)), nil
}

// culpritOf reads the stack of the goroutine that crashed, the first in the text. Its label counts
// only within GoBGP's session handler: the server's own goroutine carries that of the last session
// that changed its state.
func culpritOf(trace string) netip.Addr {
	_, stack, found := strings.Cut(trace, "\ngoroutine ")
	if !found {
		return netip.Addr{}
	}
	stack, _, _ = strings.Cut(stack, "\n\n")
	header, calls, _ := strings.Cut(stack, "\n")
	if !strings.Contains(calls, "server.(*fsmHandler).") {
		return netip.Addr{}
	}
	_, label, _ := strings.Cut(header, `"`+PeerLabel+`": "`)
	label, _, _ = strings.Cut(label, `"`)
	addr, err := netip.ParseAddr(label)
	if err != nil {
		return netip.Addr{}
	}
	return addr
}
