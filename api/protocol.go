// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"strconv"
	"strings"
)

// The protocols that have names.
const (
	ProtocolTCP     Protocol = "TCP"
	ProtocolUDP     Protocol = "UDP"
	ProtocolICMP    Protocol = "ICMP"
	ProtocolICMPv6  Protocol = "ICMPv6"
	ProtocolSCTP    Protocol = "SCTP"
	ProtocolUDPLite Protocol = "UDPLite"
)

// Number is the protocol's number in the IP header (IANA, "Assigned Internet Protocol Numbers"), or 0 if it is none.
func (p Protocol) Number() uint8 {
	switch p {
	case ProtocolICMP:
		return 1
	case ProtocolTCP:
		return 6
	case ProtocolUDP:
		return 17
	case ProtocolICMPv6:
		return 58
	case ProtocolSCTP:
		return 132
	case ProtocolUDPLite:
		return 136
	}
	n, err := strconv.ParseUint(string(p), 10, 8)
	if err != nil {
		return 0
	}
	return uint8(n)
}

// MarshalJSON gives a number as one, and a name as text.
func (p Protocol) MarshalJSON() ([]byte, error) {
	if n := p.Number(); n != 0 && string(p) == strconv.Itoa(int(n)) {
		return []byte(p), nil
	}
	return json.Marshal(string(p))
}

// UnmarshalJSON takes a number, 1..255, in quotes or not, or a name in any case, as Calico does.
func (p *Protocol) UnmarshalJSON(text []byte) error {
	word, kind, err := scalar(text)
	if err != nil || kind == "null" { // null leaves the field as it is
		return err
	}
	low := strings.ToLower(word) // a case fold would take more for the same, such as "ſctp"
	for _, name := range []Protocol{ProtocolTCP, ProtocolUDP, ProtocolICMP, ProtocolICMPv6, ProtocolSCTP, ProtocolUDPLite} {
		if kind == "string" && low == strings.ToLower(string(name)) {
			*p = name
			return nil
		}
	}
	n := Protocol(word).Number()
	if n == 0 {
		return misfitting[Protocol](word, kind)
	}
	*p = Protocol(strconv.Itoa(int(n)))
	return nil
}
