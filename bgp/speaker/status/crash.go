// SPDX-License-Identifier: Apache-2.0

package status

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strings"
	"time"
)

// Crashes is what is known of crashes of the speaker on this host. The file outlives process, agent
// and upgrade; whoever deletes it gives everybody another chance.
type Crashes struct {
	// Count is the number of crashes and Last the time of the last one.
	Count int       `json:"count"`
	Last  time.Time `json:"last"`
	// Peers counts those that happened while a message of the neighbour was read.
	Peers map[netip.Addr]int `json:"peers,omitempty"`
}

// CrashPath is where the process whose status file is path leaves the stack of a crash. The file is
// empty while the process lives and after an orderly end.
func CrashPath(path string) string { return path + ".crash" }

// LastCrashPath is where the next process moves that stack.
func LastCrashPath(path string) string { return CrashPath(path) + ".last" }

// CrashesPath is the file with the Crashes.
func CrashesPath(path string) string { return path + ".crashes" }

// HangPath is where a process that ends because its BGP server does not answer leaves its stacks.
func HangPath(path string) string { return path + ".hang" }

// ReadCrashes reads the crashes of processes whose status file is path. A file that is not there is
// an empty one.
func ReadCrashes(path string) (Crashes, error) {
	var c Crashes
	if err := read(CrashesPath(path), &c); err != nil {
		return Crashes{}, fmt.Errorf("read speaker's crashes: %w", err)
	}
	return c, nil
}

// KeepCrash is what a process does first: it moves the stack of its predecessor's crash out of its own
// way and counts it. culprit is the neighbour whose message was read, the zero Addr when that is not
// known. Moved, a stack is not counted again.
func KeepCrash(path string) (crashed bool, culprit netip.Addr, err error) {
	b, err := os.ReadFile(CrashPath(path))
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(b) == 0 {
		return false, netip.Addr{}, nil
	}
	if err != nil {
		return false, netip.Addr{}, fmt.Errorf("read speaker's crash: %w", err)
	}
	when := time.Now()
	if info, err := os.Stat(CrashPath(path)); err == nil {
		when = info.ModTime()
	}
	if err := os.Rename(CrashPath(path), LastCrashPath(path)); err != nil {
		return true, netip.Addr{}, fmt.Errorf("keep speaker's crash: %w", err)
	}
	culprit = culpritOf(string(b))
	c, err := ReadCrashes(path) // a damaged file is started anew
	c.Count++
	c.Last = when
	if culprit.IsValid() {
		if c.Peers == nil {
			c.Peers = map[netip.Addr]int{}
		}
		c.Peers[culprit]++
	}
	return true, culprit, errors.Join(err, replace(CrashesPath(path), c))
}

// PeerLabel is the goroutine label that names the neighbour whose messages a goroutine reads. The Go
// runtime prints labels in the stack of a crash (GODEBUG=tracebacklabels=1).
const PeerLabel = "peer"

// culpritOf reads the stack of the goroutine that crashed, the first in the text. Its label counts
// only within GoBGP's session handler: the server's own goroutine carries that of the last session
// that changed its state. An end that was asked for by a signal is nobody's fault.
func culpritOf(trace string) netip.Addr {
	reason, stack, found := strings.Cut(trace, "\ngoroutine ")
	if !found || strings.HasPrefix(reason, "SIGABRT") || strings.HasPrefix(reason, "SIGQUIT") {
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
