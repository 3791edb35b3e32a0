// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// drawn gives the flows to one port in rows for where they come from, without hosts.
func drawn(t Table, s Service) string {
	var b strings.Builder
	for _, from := range Places() {
		for _, to := range Places() {
			if t[Flow{from, to, s}] {
				b.WriteString(".")
			} else {
				b.WriteString("-")
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

func TestExpected(t *testing.T) {
	table, err := expected("deny *, x/b -> x/a\nallow y/*, */c,host/* -> x/a 80/TCP UDP\ndeny z/b -> host/*, pods 81\n")
	if err != nil {
		t.Fatal(err)
	}
	// x/a, x/c, y/b, z/a and z/c are on host a.
	for s, want := range map[Service]string{
		{"TCP", 80}: `
...........
-..........
...........
...........
...........
...........
-..........
-..........
...........
...........
...........
`,
		{"UDP", 81}: `
...........
-..........
...........
...........
...........
...........
-..........
-------.---
...........
...........
...........
`,
		{"SCTP", 80}: `
...........
-..........
-..........
-..........
-..........
-..........
-..........
-..........
-..........
...........
-..........
`,
	} {
		if diff := cmp.Diff(strings.TrimLeft(want, "\n"), drawn(table, s)); diff != "" {
			t.Errorf("%s: %s", s, diff)
		}
	}
}

func TestFaults(t *testing.T) {
	for text, want := range map[string]string{
		"permit * -> x/a":             `section 0: "permit * -> x/a": want allow or deny`,
		"deny * x/a":                  `section 0: "deny * x/a": want ->`,
		"deny * ->":                   `section 0: "deny * ->": want places after ->`,
		"deny x/d -> x/a":             `section 0: "deny x/d -> x/a": "x/d" is no place`,
		"deny * -> x/a 82":            `section 0: "deny * -> x/a 82": "82" is no port`,
		"deny host/a -> x/a":          `section 0: "deny host/a -> x/a": it changes nothing`,
		"deny * -> x/a\n-- remove --": `section 1: "remove": want apply, delete, label or want`,
		"deny * -> x/a\n-- apply --":  `it doesn't end with a want section`,
	} {
		if _, err := read([]byte("About.\n-- want --\n" + text + "\n")); err == nil || err.Error() != want {
			t.Errorf("%q: have error %v, want %s", text, err, want)
		}
	}
}

func TestDiff(t *testing.T) {
	want, err := expected("deny y/* -> x/a")
	if err != nil {
		t.Fatal(err)
	}
	have, err := expected("deny y/b, y/c, host/b -> x/a\ndeny y/a -> x/a TCP UDP 81")
	if err != nil {
		t.Fatal(err)
	}
	for f := range have {
		if f.Port == 81 {
			have[f] = want[f]
		}
	}
	have[Flow{"host/b", "x/a", Service{"TCP", 80}}], have[Flow{"host/b", "x/a", Service{"UDP", 80}}] = true, true
	if diff := cmp.Diff(`80/SCTP: 2 wrong (from ↓ to →)
            x/a    x/b    x/c    y/a    y/b    y/c    z/a    z/b    z/c host/a host/b
x/a           .      .      .      .      .      .      .      .      .      .      .
x/b           .      .      .      .      .      .      .      .      .      .      .
x/c           .      .      .      .      .      .      .      .      .      .      .
y/a        PASS      .      .      .      .      .      .      .      .      .      .
y/b           -      .      .      .      .      .      .      .      .      .      .
y/c           -      .      .      .      .      .      .      .      .      .      .
z/a           .      .      .      .      .      .      .      .      .      .      .
z/b           .      .      .      .      .      .      .      .      .      .      .
z/c           .      .      .      .      .      .      .      .      .      .      .
host/a        .      .      .      .      .      .      .      .      .      .      .
host/b     drop      .      .      .      .      .      .      .      .      .      .
`, want.Diff(have)); diff != "" {
		t.Error(diff)
	}
	if diff := want.Diff(want); diff != "" {
		t.Error(diff)
	}
	if f, ok := want.Wrong(have); !ok || f != (Flow{"y/a", "x/a", Service{"SCTP", 80}}) {
		t.Errorf("first wrong flow: %v, %v", f, ok)
	}
	if f, ok := want.Wrong(want); ok {
		t.Errorf("wrong flow: %v", f)
	}
	// What differs alike is drawn once.
	if diff := want.Diff(Table{}); strings.Count(diff, "wrong") != 1 || !strings.HasPrefix(diff, "80/TCP, 81/TCP, 80/UDP, 81/UDP, 80/SCTP, 81/SCTP: 118 wrong") {
		t.Error(diff)
	}
}
