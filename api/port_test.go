// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"errors"
	"testing"
)

// TestPortJSON decodes each text and encodes what came of it; an error is what a manifest's reader is told.
func TestPortJSON(t *testing.T) {
	const want = `a port (1..65535), a range of ports ("8000:8010") or the name of one`
	for in, out := range map[string]string{
		`80`:             `80`,
		`65535`:          `65535`,
		`"80"`:           `80`,
		`"8000:8010"`:    `"8000:8010"`,
		`"8000:8000"`:    `8000`,
		`"1:65535"`:      `"1:65535"`,
		`"http"`:         `"http"`,
		`"Web_1.x"`:      `"Web_1.x"`,
		`0`:              `must be ` + want + `, not number 0`,
		`65536`:          `must be ` + want + `, not number 65536`,
		`-1`:             `must be ` + want + `, not number -1`,
		`1e3`:            `must be ` + want + `, not number 1e3`,
		`80.5`:           `must be ` + want + `, not number 80.5`,
		`true`:           `must be ` + want + `, not bool`,
		`{"port": 80}`:   `must be ` + want + `, not object`,
		`[80]`:           `must be ` + want + `, not array`,
		`""`:             `must be ` + want + `, not string ""`,
		`"0"`:            `must be ` + want + `, not string "0"`,
		`"0:80"`:         `must be ` + want + `, not string "0:80"`,
		`"8010:8000"`:    `must be ` + want + `, not string "8010:8000"`,
		`"8000:"`:        `must be ` + want + `, not string "8000:"`,
		`":8000"`:        `must be ` + want + `, not string ":8000"`,
		`"a:b"`:          `must be ` + want + `, not string "a:b"`,
		`"8000:99999"`:   `must be ` + want + `, not string "8000:99999"`,
		`"8000-8010"`:    `must be ` + want + `, not string "8000-8010"`,
		`"80 "`:          `must be ` + want + `, not string "80 "`,
		`"http alt"`:     `must be ` + want + `, not string "http alt"`,
		`"\u00fcbertcp"`: `must be ` + want + `, not string "übertcp"`,
	} {
		checkJSON[Port](t, in, out)
	}
}

func TestKubernetesPortJSON(t *testing.T) {
	const want = `a port (1..65535) or the name of one`
	for in, out := range map[string]string{
		`80`:          `80`,
		`"http"`:      `"http"`,
		`"80"`:        `"80"`, // a name, for validation to refuse
		`"080"`:       `"080"`,
		`"8000:8010"`: `"8000:8010"`,
		`"8000:8000"`: `"8000:8000"`,
		`0`:           `must be ` + want + `, not number 0`,
		`"0"`:         `must be ` + want + `, not string "0"`,
		`"8000-8010"`: `must be ` + want + `, not string "8000-8010"`,
		`true`:        `must be ` + want + `, not bool`,
	} {
		checkJSON[KubernetesPort](t, in, out)
	}
}

func TestProtocolJSON(t *testing.T) {
	const want = "TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number 1..255"
	for in, out := range map[string]string{
		`"TCP"`:       `"TCP"`,
		`"udp"`:       `"UDP"`,
		`"Icmp"`:      `"ICMP"`,
		`"ICMPV6"`:    `"ICMPv6"`,
		`"sctp"`:      `"SCTP"`,
		`"udplite"`:   `"UDPLite"`,
		`6`:           `6`,
		`255`:         `255`,
		`"47"`:        `47`,
		`0`:           `must be ` + want + `, not number 0`,
		`256`:         `must be ` + want + `, not number 256`,
		`-6`:          `must be ` + want + `, not number -6`,
		`6.0`:         `must be ` + want + `, not number 6.0`,
		`false`:       `must be ` + want + `, not bool`,
		`{}`:          `must be ` + want + `, not object`,
		`[]`:          `must be ` + want + `, not array`,
		`""`:          `must be ` + want + `, not string ""`,
		`"any"`:       `must be ` + want + `, not string "any"`,
		`"tcp/udp"`:   `must be ` + want + `, not string "tcp/udp"`,
		`"ICMPv6\n"`:  `must be ` + want + `, not string "ICMPv6\n"`,
		`"\u017fctp"`: `must be ` + want + `, not string "ſctp"`,
	} {
		checkJSON[Protocol](t, in, out)
	}
}

func TestProtocolNumber(t *testing.T) {
	for p, want := range map[Protocol]uint8{
		ProtocolICMP: 1, ProtocolTCP: 6, ProtocolUDP: 17, ProtocolICMPv6: 58, ProtocolSCTP: 132, ProtocolUDPLite: 136,
		"1": 1, "255": 255, "": 0, "0": 0, "256": 0, "tcp": 0,
	} {
		if have := p.Number(); have != want {
			t.Errorf("Protocol(%q).Number() = %d, want %d", p, have, want)
		}
	}
}

// checkJSON compares what decoding and encoding again gives, or the error of decoding.
func checkJSON[T any](t *testing.T, in, want string) {
	t.Helper()
	var field struct {
		X T `json:"x"`
	}
	var have []byte
	err := json.Unmarshal([]byte(`{"x": `+in+`}`), &field)
	if err == nil {
		have, err = json.Marshal(field.X)
	}
	text := string(have)
	if err != nil {
		text = typeError(err, "", nil).Error()
		want = "x: " + want
	}
	if text != want {
		t.Errorf("%s:\nhave %s\nwant %s", in, text, want)
	}
	if null := json.Unmarshal([]byte(`{"x": null}`), &field); null != nil {
		t.Errorf("null: %v", null)
	}
}

// FuzzPort: what is taken for a port is one, and is the same when it is read again.
func FuzzPort(f *testing.F) {
	for _, text := range []string{`80`, `"80"`, `"8000:8010"`, `"http"`, `0`, `"1:0"`, `""`, `null`, `{}`, `1e1`, `"\u0038"`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, ok := again[Port](t, data)
		if ok && p != (Port{}) && (p.Name == "") == (p.First == 0 || p.First > p.Last) {
			t.Errorf("%s is taken for %+v", data, p)
		}
		if q, ok := parsePort(p.String()); p != (Port{}) && (!ok || q != p) {
			t.Errorf("%+v is written as %s, which is read as %+v", p, p, q)
		}
	})
}

// FuzzProtocol: what is taken for a protocol has a number, and is the same when it is read again.
func FuzzProtocol(f *testing.F) {
	for _, text := range []string{`"TCP"`, `"icmpv6"`, `47`, `"47"`, `"007"`, `0`, `256`, `""`, `null`, `[]`, `"any"`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if p, ok := again[Protocol](t, data); ok && p != "" && p.Number() == 0 {
			t.Errorf("%s is taken for %q", data, p)
		}
	})
}

// again decodes, encodes and decodes. ok is false where the data is not taken, for which it must have a type that does
// not fit, or be no JSON.
func again[T comparable](t *testing.T, data []byte) (first T, ok bool) {
	if err := json.Unmarshal(data, &first); err != nil {
		var mismatch *json.UnmarshalTypeError
		var syntax *json.SyntaxError
		if !errors.As(err, &mismatch) && !errors.As(err, &syntax) {
			t.Errorf("%s: error of type %T: %v", data, err, err)
		}
		return first, false
	}
	var zero, second T
	if first == zero {
		return first, true // null
	}
	text, err := json.Marshal(first)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &second); err != nil || second != first {
		t.Errorf("%s is %v, written as %s and read as %v (%v)", data, first, text, second, err)
	}
	return first, true
}
