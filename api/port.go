// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"strconv"
	"strings"
)

// maxPortName is the longest name of a port that Calico takes. Kubernetes' own have 15 bytes at most (RFC 6335).
const maxPortName = 128

// String gives "8080", "8000:8010" or the name.
func (p Port) String() string {
	switch {
	case p.Name != "":
		return p.Name
	case p.First == p.Last:
		return strconv.Itoa(int(p.First))
	}
	return strconv.Itoa(int(p.First)) + ":" + strconv.Itoa(int(p.Last))
}

// MarshalJSON gives one port as a number, and a range or name as text.
func (p Port) MarshalJSON() ([]byte, error) {
	if p.Name == "" && p.First == p.Last {
		return json.Marshal(p.First)
	}
	return json.Marshal(p.String())
}

// UnmarshalJSON takes a number, or as text a number, a range or a name.
func (p *Port) UnmarshalJSON(text []byte) error {
	word, kind, err := scalar(text)
	if err != nil || kind == "null" { // null leaves the field as it is
		return err
	}
	port, ok := parsePort(word)
	if !ok || kind != "string" && kind != "number" || kind == "number" && port.Name != "" {
		return misfitting[Port](word, kind)
	}
	*p = port
	return nil
}

// UnmarshalJSON takes a number or a name, and a range as text.
func (p *KubernetesPort) UnmarshalJSON(text []byte) error {
	word, kind, err := scalar(text)
	if err != nil || kind == "null" {
		return err
	}
	var port Port
	if port.UnmarshalJSON(text) != nil {
		return misfitting[KubernetesPort](word, kind)
	}
	if kind == "string" && port.First == port.Last {
		port = Port{Name: word}
	}
	p.Port = port
	return nil
}

// parsePort is the inverse of String.
func parsePort(text string) (Port, bool) {
	from, to, isRange := strings.Cut(text, ":")
	first, ok := portNumber(from)
	switch {
	case ok && !isRange:
		return Port{First: first, Last: first}, true
	case ok:
		last, ok := portNumber(to)
		return Port{First: first, Last: last}, ok && first <= last
	case isRange || !isPortName(text):
		return Port{}, false
	}
	return Port{Name: text}, true
}

// portNumber reads a port in decimal digits; there is no port 0.
func portNumber(digits string) (uint16, bool) {
	n, err := strconv.ParseUint(digits, 10, 16)
	return uint16(n), err == nil && n > 0
}

// isPortName says whether it names a port: letters, digits, dots, dashes and underscores, as Calico has them. One
// without any letter, such as "8000-8010", is no name but a mistake.
func isPortName(name string) bool {
	letters := 0
	for _, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
			letters++
		case c >= '0' && c <= '9', c == '.', c == '-', c == '_':
		default:
			return false
		}
	}
	return letters > 0 && len(name) <= maxPortName
}
