// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// fake answers pings in half a millisecond, except to what it cannot reach.
type fake string

func (f fake) Exec(_ context.Context, argv ...string) (string, error) {
	if argv[len(argv)-1] == string(f) {
		return "1 packets transmitted, 0 received", errors.New("exit status 1")
	}
	return "64 bytes from 192.0.2.1: icmp_seq=1 ttl=62 time=0.500 ms", nil
}

func TestMatrix(t *testing.T) {
	cases := []struct{ name, unreachable, want, err string }{
		{name: "all answer", want: `
  from ↓ to →                a1    b1  host a
  a1           192.0.2.1      ·  0.50    0.50
  b1           192.0.2.2   0.50     ·    0.50
  host a       192.0.2.10  0.50  0.50       ·

All 6 pings were answered.
`},
		{name: "a1 and host a do not reach b1", unreachable: "192.0.2.2", err: "2 of 6 pings were not answered", want: `
  from ↓ to →                a1  b1  host a
  a1           192.0.2.1      ·   ✗    0.50
  b1           192.0.2.2   0.50   ·    0.50
  host a       192.0.2.10  0.50   ✗       ·

no answer: a1 to b1 (192.0.2.2): exit status 1
no answer: host a to b1 (192.0.2.2): exit status 1
`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m := pingAll(t.Context(), []place{
				{"a1", netip.MustParseAddr("192.0.2.1"), fake(c.unreachable)},
				{"b1", netip.MustParseAddr("192.0.2.2"), fake("")},
				{"host a", netip.MustParseAddr("192.0.2.10"), fake(c.unreachable)},
			})
			var out strings.Builder
			out.WriteString("\n")
			grid(&out, m.table(), 2)
			err := verdict(&out, m)
			if have := out.String(); have != c.want {
				t.Errorf("have%s\nwant%s", have, c.want)
			}
			if (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
				t.Errorf("error %v, want %q", err, c.err)
			}
		})
	}
}
