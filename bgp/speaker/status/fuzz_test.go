// SPDX-License-Identifier: Apache-2.0

package status

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzRead reads arbitrary files, as one that is cut or of another version: what is read can be written and read again.
func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"pid": 1, "peers": {"192.0.2.1": {"reason": "r", "up": "2026-01-01T00:00:00Z", "flaps": 2}, "fe80::1%eth0": {}}}`))
	f.Add([]byte(`{"peers": {"": {}, "x": null}}`))
	f.Add([]byte(`null`))
	f.Add([]byte(`{"pid": 1, "pe`))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "status.json")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		have, err := Read(path)
		if err != nil {
			if len(have.Peers) != 0 {
				t.Errorf("%q: have %+v with %v", data, have, err)
			}
			return
		}
		if err := Write(path, have); err != nil {
			t.Fatal(err)
		}
		again, err := Read(path)
		if err != nil || len(again.Peers) != len(have.Peers) || again.PID != have.PID {
			t.Errorf("%q: have %+v, %v, want %+v", data, again, err, have)
		}
		for addr, peer := range have.Peers {
			have := again.Peers[addr]
			if have.Reason != peer.Reason || have.Flaps != peer.Flaps || !have.Up.Equal(peer.Up) || !have.Down.Equal(peer.Down) {
				t.Errorf("%s: have %+v, want %+v", addr, have, peer)
			}
		}
	})
}

// FuzzKeepCrash reads arbitrary stacks and counts: the stack is moved, so that it is not counted twice.
func FuzzKeepCrash(f *testing.F) {
	f.Add([]byte("panic: boom\n\ngoroutine 7 [running] {\"peer\": \"192.0.2.1\"}:\nserver.(*fsmHandler).recv()\n"), []byte(`{"peers": {"192.0.2.1": 3}}`))
	f.Add([]byte("x"), []byte(`{"peers": null}`))
	f.Add([]byte("goroutine 1 [running] {"), []byte(`{"pe`))
	f.Fuzz(func(t *testing.T, stack, counts []byte) {
		path := filepath.Join(t.TempDir(), "status.json")
		for name, text := range map[string][]byte{CrashPath(path): stack, CrashesPath(path): counts} {
			if err := os.WriteFile(name, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		crashed, culprit, _ := KeepCrash(path)
		if crashed != (len(stack) > 0) || culprit.IsValid() && !crashed {
			t.Errorf("%q: have %t, %v", stack, crashed, culprit)
		}
		if again, _, err := KeepCrash(path); again || err != nil {
			t.Errorf("%q was counted again: %v", stack, err)
		}
	})
}
