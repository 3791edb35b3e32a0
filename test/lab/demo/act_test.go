// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
)

// fakeNetwork answers at once: as the function says of an address and port.
type fakeNetwork func(to string) error

func (f fakeNetwork) Dial(_ context.Context, _, to string) (net.Conn, error) {
	if err := f(to); err != nil {
		return nil, err
	}
	conn, _ := net.Pipe()
	return conn, nil
}

func (f fakeNetwork) Listen(context.Context, string, string) (net.Listener, error) {
	return nil, errors.New("not here")
}

// cast are two servers, a client and a guest, with addresses of both families. What dials gets is what says.
func cast(says func(from, to string) error) []party {
	var all []party
	for i, label := range []string{web, client, web, guest} {
		name := "p" + string(rune('0'+i))
		all = append(all, party{
			name: name, label: label, net: fakeNetwork(func(to string) error { return says(name, to) }),
			addresses: []netip.Addr{netip.MustParseAddr("192.0.2." + name[1:]), netip.MustParseAddr("2001:db8::" + name[1:])},
		})
	}
	return all
}

func TestScenes(t *testing.T) {
	blocked := os.ErrDeadlineExceeded
	ordered := func(from, to string) error {
		if from != "p1" || to != "192.0.2.0:8080" && to != "192.0.2.2:8080" && to != "[2001:db8::]:8080" && to != "[2001:db8::2]:8080" {
			return blocked
		}
		return nil
	}
	cases := []struct {
		name      string
		scene     int
		says      func(from, to string) error
		want, err string
	}{
		{name: "nothing is blocked", scene: 0, says: func(string, string) error { return nil }, want: `
No policy: TCP to ports 8080 and 9090, by IPv4 and IPv6
  from ↓ to →               p0  p1  p2  p3
  p0           app=web       ·  ✓✓  ✓✓  ✓✓
  p1           role=client  ✓✓   ·  ✓✓  ✓✓
  p2           app=web      ✓✓  ✓✓   ·  ✓✓
  p3           role=guest   ✓✓  ✓✓  ✓✓   ·
`},
		{name: "everything is", scene: 1, says: func(string, string) error { return blocked }, want: `
Default deny: TCP to ports 8080 and 9090, by IPv4 and IPv6
  from ↓ to →               p0  p1  p2  p3
  p0           app=web       ·  ✗✗  ✗✗  ✗✗
  p1           role=client  ✗✗   ·  ✗✗  ✗✗
  p2           app=web      ✗✗  ✗✗   ·  ✗✗
  p3           role=guest   ✗✗  ✗✗  ✗✗   ·
`},
		{name: "clients reach servers", scene: 2, says: ordered, want: `
Allowed by label and port: TCP to ports 8080 and 9090, by IPv4 and IPv6
  from ↓ to →               p0  p1  p2  p3
  p0           app=web       ·  ✗✗  ✗✗  ✗✗
  p1           role=client  ✓✗   ·  ✓✗  ✗✗
  p2           app=web      ✗✗  ✗✗   ·  ✗✗
  p3           role=guest   ✗✗  ✗✗  ✗✗   ·
`},
		{name: "one passes, one is refused and one is blocked", scene: 2, says: func(from, to string) error {
			switch {
			case from == "p3" && to == "[2001:db8::]:9090":
				return nil
			case from == "p3" && to == "192.0.2.1:8080":
				return errors.New("refused")
			case to == "192.0.2.2:8080":
				return blocked
			}
			return ordered(from, to)
		}, want: `
Allowed by label and port: TCP to ports 8080 and 9090, by IPv4
  from ↓ to →               p0  p1  p2  p3
  p0           app=web       ·  ✗✗  ✗✗  ✗✗
  p1           role=client  ✓✗   ·  ✗✗  ✗✗
  p2           app=web      ✗✗  ✗✗   ·  ✗✗
  p3           role=guest   ✗✗  !✗  ✗✗   ·

Allowed by label and port: TCP to ports 8080 and 9090, by IPv6
  from ↓ to →               p0  p1  p2  p3
  p0           app=web       ·  ✗✗  ✗✗  ✗✗
  p1           role=client  ✓✗   ·  ✓✗  ✗✗
  p2           app=web      ✗✗  ✗✗   ·  ✗✗
  p3           role=guest   ✗✓  ✗✗  ✗✗   ·
`, err: "allowed by label and port: 3 of 48 connections were not as the policies say: p1 to p2 (192.0.2.2:8080) was blocked; " +
			"p3 to p0 ([2001:db8::]:9090) passed; p3 to p1 (192.0.2.1:8080): refused"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			err := connectAll(t.Context(), cast(c.says)).show(&out, scenes()[c.scene])
			if have := out.String(); have != c.want {
				t.Errorf("have%s\nwant%s", have, c.want)
			}
			if (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
				t.Errorf("error %v, want %q", err, c.err)
			}
		})
	}
}

// TestChanged: what is watched for while policies change is one flow to each port that the change concerns.
func TestChanged(t *testing.T) {
	all := cast(nil)
	s := scenes()
	for _, c := range []struct {
		before, after int
		want          string
	}{
		{0, 1, "p1→p0:8080✗ p1→p0:9090✗ p0→p1:8080✗ p0→p1:9090✗ p0→p2:8080✗ p0→p2:9090✗ p0→p3:8080✗ p0→p3:9090✗"},
		{1, 2, "p1→p0:8080✓ p1→p2:8080✓"},
		{2, 1, "p1→p0:8080✗ p1→p2:8080✗"},
		{1, 1, ""},
	} {
		have := map[string]bool{}
		for _, w := range changed(all, s[c.before].allows, s[c.after].allows) {
			mark := "✗"
			if w.passes {
				mark = "✓"
			}
			if w.address.Is4() {
				have[fmt.Sprintf("%s→%s:%d%s", all[w.from].name, all[w.to].name, w.port, mark)] = true
			}
		}
		want := map[string]bool{}
		for _, text := range strings.Fields(c.want) {
			want[text] = true
		}
		if fmt.Sprint(have) != fmt.Sprint(want) {
			t.Errorf("from %s to %s: watched are %v, want %v", s[c.before].title, s[c.after].title, have, want)
		}
	}
}

func TestLabels(t *testing.T) {
	have := ""
	for _, last := range []bool{false, true} {
		for i := range 3 {
			have += fmt.Sprint(labels(i, last), " ")
		}
	}
	if want := "map[app:web] map[role:client] map[role:guest] map[app:web] map[role:guest] map[role:guest] "; have != want {
		t.Errorf("labels of three pods, and of the last host's: %s, want %s", have, want)
	}
}
