// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"korat/felix/kernel"
)

// TestCalicoRules holds the layout against what Felix itself has made of the input.
func TestCalicoRules(t *testing.T) {
	in := Input{Endpoints: 100, Policies: 100, Groups: 10}
	text := fixed() + laid(nil).change(in.felix(in.Endpoints), kernel.NFT)
	if have, want := strings.Count(text, "\n-A "), 4017; have != want {
		t.Errorf("rules: want %d, have %d", want, have)
	}
	for _, b := range []kernel.Backend{kernel.NFT, kernel.Legacy} {
		if have, want := laid(nil).change(in.felix(3), b), in.felix(3); len(laidBy(have)) != len(want) {
			t.Errorf("%s: want %d chains, have %d", b, len(want), len(laidBy(have)))
		}
	}
}

// laidBy reads a text back.
func laidBy(text string) laid {
	var f felix
	for line := range strings.Lines(text) {
		if line[0] == ':' || line[0] == '-' {
			f.WriteString(line)
		}
	}
	return f.chains()
}

func TestCalicoChange(t *testing.T) {
	have := laid{"a": {"-A a 1\n", "-A a 2\n", "-A a 3\n"}, "b": {"-A b 1\n"}, "c": {"-A c 1\n", "-A c 2\n"}}
	want := laid{"a": {"-A a 1\n", "-A a x\n", "-A a 3\n", "-A a 4\n"}, "b": {"-A b 1\n"}, "c": {"-A c 1\n"}, "d": {"-A d 1\n"}}
	for b, text := range map[kernel.Backend]string{
		kernel.NFT: `*filter
:a - -
:c - -
:d - -
-A a 1
-A a x
-A a 3
-A a 4
-A c 1
-A d 1
COMMIT
`,
		kernel.Legacy: `*filter
:d - -
-R a 2 x
-R a 3 3
-A a 4
-D c 2
-A d 1
COMMIT
`,
	} {
		if diff := cmp.Diff(text, have.change(want, b)); diff != "" {
			t.Errorf("%s: want (-), have (+):\n%s", b, diff)
		}
	}
}

// TestCalicoEndpoint has an endpoint go into a chain of the dispatch that is there.
func TestCalicoEndpoint(t *testing.T) {
	in := Input{Groups: 1, Policies: 1}
	have := in.felix(12)
	var f felix
	f.workload(in, 12)
	f.tree(13)
	var names []string
	for line := range strings.Lines(have.change(f.chains(), kernel.NFT)) {
		if line[0] == ':' {
			name, _, _ := strings.Cut(line[1:], " ")
			names = append(names, name)
		}
	}
	want := []string{"cali-from-wl-dispatch-1", "cali-fw-cali00012", "cali-to-wl-dispatch-1", "cali-tw-cali00012"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("chains: want (-), have (+):\n%s", diff)
	}
}
