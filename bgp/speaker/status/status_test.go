// SPDX-License-Identifier: Apache-2.0

package status_test

import (
	"net/netip"
	"os"
	"path/filepath"
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

func TestCrashed(t *testing.T) {
	const handler = "github.com/osrg/gobgp/v3/pkg/server.(*fsmHandler).recvMessageWithError(0x1)\n\tfsm.go:1117 +0x1\n"
	const serve = "github.com/osrg/gobgp/v3/pkg/server.(*BgpServer).Serve(0x1)\n\tserver.go:500 +0x1\n"
	const other = "\ngoroutine 9 [select labels:{\"peer\": \"10.0.0.9\"}]:\n" + handler
	for _, tc := range []struct {
		name, trace string
		crashed     bool
		culprit     string
	}{
		{"orderly end", "", false, ""},
		{"reading a message", "panic: x\n\ngoroutine 4 [running labels:{\"peer\": \"10.0.0.5\"}]:\n" + handler + other, true, "10.0.0.5"},
		{"fatal error", "fatal error: x\n\ngoroutine 4 gp=0x1 m=3 [running labels:{\"a\": \"b\", \"peer\": \"10.0.0.5\"}]:\n" + handler, true, "10.0.0.5"},
		{"in the server's goroutine", "panic: x\n\ngoroutine 1 [running labels:{\"peer\": \"10.0.0.5\"}]:\n" + serve + other, true, ""},
		{"no label", "panic: x\n\ngoroutine 4 [running]:\n" + handler + other, true, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "status.json")
			if err := os.WriteFile(status.CrashPath(path), []byte(tc.trace), 0o600); err != nil {
				t.Fatal(err)
			}
			crashed, culprit, err := status.Crashed(path)
			got := ""
			if culprit.IsValid() {
				got = culprit.String()
			}
			if err != nil || crashed != tc.crashed || got != tc.culprit {
				t.Errorf("got %t, %q, %v; want %t, %q", crashed, got, err, tc.crashed, tc.culprit)
			}
		})
	}
	if crashed, _, err := status.Crashed(filepath.Join(t.TempDir(), "none")); crashed || err != nil {
		t.Errorf("no file gives %t, %v", crashed, err)
	}
}
