// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"
	"net/netip"
	"net/url"
	"strconv"

	"korat/felix/revocation"
)

// lifelines are the connections to the datastore: those of this agent, or, where it serves the others, theirs. A server that
// is known by a name may have any address. What is no URL with a port or of a known scheme the client refuses.
func (d datastoreSettings) lifelines() []revocation.Lifeline {
	if d.kind == "embedded" {
		_, port, _ := net.SplitHostPort(d.embeddedListen)
		return []revocation.Lifeline{{OwnPort: portOf(port)}}
	}
	var all []revocation.Lifeline
	for _, text := range d.endpoints {
		u, err := url.Parse(text)
		if err != nil {
			continue
		}
		port := u.Port()
		if port == "" {
			port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
		}
		addr, _ := netip.ParseAddr(u.Hostname())
		all = append(all, revocation.Lifeline{Peer: addr.Unmap().WithZone(""), PeerPort: portOf(port)})
	}
	return all
}

func portOf(text string) uint16 {
	n, _ := strconv.ParseUint(text, 10, 16)
	return uint16(n)
}
