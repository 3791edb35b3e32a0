// SPDX-License-Identifier: Apache-2.0

package show

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"korat/felix"
)

// packetTime is when a packet came, as it is printed.
const packetTime = "2006-01-02T15:04:05.000Z07:00"

// ReportedPacket prints a packet that a rule reported, in one line.
func ReportedPacket(w io.Writer, f Format, p felix.ReportedPacket) error {
	if f == JSON {
		text, err := json.Marshal(p)
		if err == nil {
			_, err = w.Write(append(text, '\n'))
		}
		return err
	}
	_, err := fmt.Fprintln(w, p.Time.Format(packetTime), reported(p))
	return err
}

func reported(p felix.ReportedPacket) string {
	if p.Lost > 0 {
		return fmt.Sprintf("lost %d packets: they came faster than they could be told of", p.Lost)
	}
	what := p.Protocol
	if strings.Trim(what, "0123456789") == "" {
		what = "protocol " + what
	}
	if p.ICMP != nil {
		what += fmt.Sprintf(" type %d, code %d", p.ICMP.Type, p.ICMP.Code)
	}
	direction := ""
	if p.Direction != "" {
		direction = " " + strings.ToLower(string(p.Direction))
	}
	by := p.Why
	if p.Policy != nil && p.Rule != nil {
		by = "by " + ruleName(p.Direction, *p.Rule, p.Name) + " of " + listName(*p.Policy)
	}
	if p.Verdict == "staged" {
		by += ", which is staged and would decide " + string(p.Action)
	}
	return fmt.Sprintf("%s%s: %s from %s to %s, %s", p.Verdict, direction, what,
		sight(p.From.Name, p.From.Address, p.SourcePort), sight(p.To.Name, p.To.Address, p.DestinationPort), by)
}

// sight gives "shop/web (10.0.0.1) port 80", as much of it as there is.
func sight(name string, addr netip.Addr, port uint16) string {
	text := addr.String()
	if name != "" {
		text = name + " (" + text + ")"
	}
	if port != 0 {
		text += fmt.Sprintf(" port %d", port)
	}
	return text
}
