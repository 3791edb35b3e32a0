// SPDX-License-Identifier: Apache-2.0

package status_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"korat/bgp/speaker/status"
)

func TestWriteRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "status.json")
	none, err := status.Read(path)
	if err != nil || none.PID != 0 {
		t.Errorf("no file gives %+v, %v; want an empty one", none, err)
	}
	want := status.File{PID: 7, Peers: map[netip.Addr]status.Peer{
		netip.MustParseAddr("10.0.0.1"): {Reason: "connect: connection refused", Down: time.Unix(5, 0).UTC(), Flaps: 2},
		netip.MustParseAddr("fe80::1"):  {Up: time.Unix(6, 0).UTC()},
	}}
	if err := status.Write(path, want); err != nil {
		t.Fatal(err)
	}
	got, err := status.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); d != "" {
		t.Errorf("read differs from written (-want +got):\n%s", d)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := status.Read(path); err == nil {
		t.Error("a damaged file gives no error")
	}
}

// A crash is counted once, its stack is kept, and a neighbour is blamed only for what it did.
func TestKeepCrash(t *testing.T) {
	const handler = "github.com/osrg/gobgp/v3/pkg/server.(*fsmHandler).recvMessageWithError(0x1)\n\tfsm.go:1117 +0x1\n"
	const serve = "github.com/osrg/gobgp/v3/pkg/server.(*BgpServer).Serve(0x1)\n\tserver.go:500 +0x1\n"
	const other = "\ngoroutine 9 [select labels:{\"peer\": \"10.0.0.9\"}]:\n" + handler
	path := filepath.Join(t.TempDir(), "status.json")
	for _, tc := range []struct{ name, trace, want string }{
		{"no file", "", "0 crashes, by map[]"},
		{"orderly end", "-", "0 crashes, by map[]"},
		{"reading a message", "panic: x\n\ngoroutine 4 [running labels:{\"peer\": \"10.0.0.5\"}]:\n" + handler + other, "1 crashes, by map[10.0.0.5:1]"},
		{"fatal error", "fatal error: x\n\ngoroutine 4 gp=0x1 m=3 [running labels:{\"a\": \"b\", \"peer\": \"10.0.0.5\"}]:\n" + handler, "2 crashes, by map[10.0.0.5:2]"},
		{"in the server's goroutine", "panic: x\n\ngoroutine 1 [running labels:{\"peer\": \"10.0.0.5\"}]:\n" + serve + other, "3 crashes, by map[10.0.0.5:2]"},
		{"no label", "panic: x\n\ngoroutine 4 [running]:\n" + handler + other, "4 crashes, by map[10.0.0.5:2]"},
		{"killed by a signal", "SIGABRT: abort\n\ngoroutine 4 [running labels:{\"peer\": \"10.0.0.5\"}]:\n" + handler, "5 crashes, by map[10.0.0.5:2]"},
		{"an IPv6 neighbour", "panic: x\n\ngoroutine 4 [running labels:{\"peer\": \"fd00::5\"}]:\n" + handler, "6 crashes, by map[10.0.0.5:2 fd00::5:1]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.trace != "" {
				if err := os.WriteFile(status.CrashPath(path), []byte(strings.Trim(tc.trace, "-")), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for _, again := range []bool{false, true} {
				crashed, _, err := status.KeepCrash(path)
				if err != nil || crashed != (len(tc.trace) > 1 && !again) {
					t.Errorf("again %t: crashed %t, %v", again, crashed, err)
				}
			}
			have, err := status.ReadCrashes(path)
			if got := fmt.Sprintf("%d crashes, by %v", have.Count, have.Peers); got != tc.want || err != nil {
				t.Errorf("have %s, %v; want %s", got, err, tc.want)
			}
			if kept, err := os.ReadFile(status.LastCrashPath(path)); len(tc.trace) > 1 && string(kept) != tc.trace {
				t.Errorf("kept %q, %v; want %q", kept, err, tc.trace)
			}
		})
	}
	if err := os.WriteFile(status.CrashesPath(path), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := status.ReadCrashes(path); err == nil {
		t.Error("a damaged file gives no error")
	}
}
