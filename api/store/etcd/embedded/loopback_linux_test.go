// SPDX-License-Identifier: Apache-2.0

package embedded_test

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"korat/api/store/etcd/embedded"
)

// listeners gives the addresses that this process listens on with TCP, as the kernel lists them. (proc(5), net/tcp)
func listeners(t *testing.T) []netip.AddrPort {
	t.Helper()
	ours := map[string]bool{}
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil { // one is the listing's own, and gone
			ours[target] = true
		}
	}
	var all []netip.AddrPort
	for _, table := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		text, err := os.ReadFile(table)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(string(text), "\n") {
			words := strings.Fields(line)
			const local, state, inode = 1, 3, 9
			if len(words) <= inode || words[state] != "0A" || !ours["socket:["+words[inode]+"]"] {
				continue
			}
			all = append(all, kernelAddress(t, words[local]))
		}
	}
	return all
}

// kernelAddress reads "0100007F:0277": words of four bytes in the byte order of the host, which is little endian on
// all that korat is built for.
func kernelAddress(t *testing.T, text string) netip.AddrPort {
	t.Helper()
	host, port, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(host)
	if err != nil {
		t.Fatal(err)
	}
	for word := range slices.Chunk(raw, 4) {
		slices.Reverse(word)
	}
	addr, _ := netip.AddrFromSlice(raw)
	var number uint16
	if _, err := fmt.Sscanf(port, "%X", &number); err != nil || !addr.IsValid() {
		t.Fatalf("%s: %v", text, err)
	}
	return netip.AddrPortFrom(addr, number)
}

// A server without TLS listens on loopback, for clients, and on nothing else: not for peers, nor for metrics.
func TestListensOnLoopbackAlone(t *testing.T) {
	before := listeners(t)
	for listen, want := range map[string]string{
		"127.0.0.1:0": "127.0.0.1", "localhost:0": "127.0.0.1", "127.9.9.9:0": "127.9.9.9",
		"[::1]:0": "::1", "[::ffff:127.0.0.1]:0": "127.0.0.1",
	} {
		server := start(t, embedded.Config{Dir: t.TempDir(), Listen: listen})
		var have []string
		for _, l := range listeners(t) {
			if !slices.Contains(before, l) {
				have = append(have, l.Addr().Unmap().String())
			}
		}
		if len(have) != 1 || have[0] != want {
			t.Errorf("%s: listens on %v, want %s alone", listen, have, want)
		}
		server.Stop()
	}
}

// Without being told otherwise it is loopback, and what others can reach needs an authority that signs its clients.
func TestRefusesOthersWithoutTLS(t *testing.T) {
	cert := newAuthority(t).issue(t, "server")
	const need = "whoever can reach it could change the cluster: give an authority, a certificate and a key, or listen on 127.0.0.1:2379"
	for listen, want := range map[string]string{
		"0.0.0.0:0": need, "192.0.2.1:0": need, "[::]:0": need, "[fd00::1]:0": need, "[2001:db8::1]:0": need,
		"[fe80::1%eth0]:0": need, "[::ffff:192.0.2.1]:0": need, "[::ffff:0.0.0.0]:0": need, "[::127.0.0.1]:0": need,
		"[::1%eth0]:0": "must be an IP address", "host-a:0": "must be an IP address", "localhost.example:0": "must be an IP address",
		"0:0": "must be an IP address", "127.1:0": "must be an IP address", "0x7f000001:0": "must be an IP address",
		"*:0": "must be an IP address", ":0": "must be an IP address", "::1:0": "must be address:port",
	} {
		for _, cfg := range []embedded.Config{{}, {CertFile: cert.cert, KeyFile: cert.key}} {
			cfg.Dir, cfg.Listen, cfg.Log = t.TempDir(), listen, quiet()
			server, err := embedded.Start(t.Context(), cfg)
			if err == nil {
				server.Stop()
			}
			wantText(t, err, want)
		}
	}
}
