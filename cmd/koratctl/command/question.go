// SPDX-License-Identifier: Apache-2.0

package command

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"korat/api"
	"korat/policy"
	"korat/policy/explain"
)

// noRulesPort is the source port if none is given: Linux gives the likes of it to outgoing connections.
const noRulesPort = 50000

// The echo requests of ICMP (RFC 792) and ICMPv6 (RFC 4443).
const echoRequest, echoRequest6 = 8, 128

// question is a flow whose ends are still names.
type question struct {
	explainFlags
	protocol  policy.Protocol
	typeGiven bool
}

// question checks what the flags say by themselves.
func (f explainFlags) question(cmd *cobra.Command) (question, error) {
	q := question{explainFlags: f, typeGiven: cmd.Flags().Changed("icmp-type")}
	if f.from == "" || f.to == "" {
		return q, usagef("say from where to where: --from and --to")
	}
	known := policy.Protocol(protocol(f.proto).Number())
	if known == 0 {
		return q, usagef("--proto: %q: use tcp, udp, sctp, udplite, icmp or a number from 1 to 255", f.proto)
	}
	q.protocol = known
	given := func(flags ...string) string {
		i := slices.IndexFunc(flags, cmd.Flags().Changed)
		if i < 0 {
			return ""
		}
		return flags[i]
	}
	switch {
	case known == policy.ICMP || known == policy.ICMPv6:
		if flag := given("port", "source-port"); flag != "" {
			return q, usagef("--%s: %s has no ports: use --icmp-type and --icmp-code", flag, f.proto)
		}
	case slices.Contains([]policy.Protocol{policy.TCP, policy.UDP, policy.SCTP, policy.UDPLite}, known):
		if given("port") == "" {
			return q, usagef("--port: give the destination port")
		}
		if flag := given("icmp-type", "icmp-code"); flag != "" {
			return q, usagef("--%s: give --proto icmp with it", flag)
		}
	default:
		if flag := given("port", "source-port", "icmp-type", "icmp-code"); flag != "" {
			return q, usagef("--%s: protocol %s has none", flag, f.proto)
		}
	}
	return q, nil
}

// protocol gives the name as objects have it, which may be typed in any case.
func protocol(name string) api.Protocol {
	for _, p := range []api.Protocol{api.ProtocolTCP, api.ProtocolUDP, api.ProtocolSCTP, api.ProtocolUDPLite, api.ProtocolICMP, api.ProtocolICMPv6} {
		if strings.EqualFold(name, string(p)) {
			return p
		}
	}
	return api.Protocol(name)
}

// flow finds the ends, and a family that both have.
func (q question) flow(w *explain.World) (explain.Flow, error) {
	from, err := ends(w, "--from", q.from)
	if err != nil {
		return explain.Flow{}, err
	}
	to, err := ends(w, "--to", q.to)
	if err != nil {
		return explain.Flow{}, err
	}
	families := api.Families()
	if q.ipv6 {
		families = []api.Family{api.IPv6}
	}
	for _, family := range families {
		of := func(e explain.End) bool { return api.FamilyOf(e.Address) == family }
		i, j := slices.IndexFunc(from, of), slices.IndexFunc(to, of)
		if i >= 0 && j >= 0 {
			return q.between(from[i], to[j], family)
		}
		if q.ipv6 && i < 0 {
			return explain.Flow{}, fmt.Errorf("--ipv6: %s has no IPv6 address", q.from)
		}
		if q.ipv6 {
			return explain.Flow{}, fmt.Errorf("--ipv6: %s has no IPv6 address", q.to)
		}
	}
	return explain.Flow{}, fmt.Errorf("%s and %s have no addresses of one family", q.from, q.to)
}

func (q question) between(from, to explain.End, family api.Family) (explain.Flow, error) {
	f := explain.Flow{From: from, To: to, Protocol: q.protocol, Leaves: q.leaves, Enters: q.enters}
	switch {
	case q.protocol == policy.ICMPv6 && family == api.IPv4:
		return f, fmt.Errorf("--proto: icmpv6 is not for IPv4: %s has the address %s", q.to, to.Address)
	case q.protocol == policy.ICMP || q.protocol == policy.ICMPv6:
		f.ICMP = policy.ICMPType{Type: q.icmpType, Code: int16(q.icmpCode)}
		if !q.typeGiven {
			f.ICMP.Type = echoRequest
		}
		if family == api.IPv6 {
			f.Protocol = policy.ICMPv6
		}
		if family == api.IPv6 && !q.typeGiven {
			f.ICMP.Type = echoRequest6
		}
	default:
		f.DestinationPort, f.SourcePort = q.port, q.sourcePort
		if q.port != 0 && q.sourcePort == 0 {
			f.SourcePort = noRulesPort
		}
	}
	return f, nil
}

// ends gives what a person calls one end: an address, a pod or a node.
func ends(w *explain.World, flag, text string) ([]explain.End, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		if addr.Zone() != "" {
			return nil, fmt.Errorf("%s: %q: give the address without a zone", flag, text)
		}
		return []explain.End{w.Resolve(addr)}, nil
	}
	if net, err := netip.ParsePrefix(text); err == nil {
		return nil, fmt.Errorf("%s: %q: is a network: give one address of it, such as %s", flag, text, net.Addr())
	}
	namespace, name := splitName(text)
	found := w.Named(namespace, name)
	switch {
	case len(found) > 0 && slices.ContainsFunc(found, func(e explain.End) bool { return e.Node != found[0].Node }):
		return nil, fmt.Errorf("%s: %s: is on the nodes %s and %s: give its address instead", flag, text, found[0].Node, found[len(found)-1].Node)
	case len(found) > 0:
		return found, nil
	case namespace == "":
		return nil, fmt.Errorf("%s: %q: is neither an address nor a node with an address; a pod is written NAMESPACE/POD", flag, text)
	}
	return nil, fmt.Errorf("%s: %s: there is no such pod, or it has no address yet (koratctl get wep -n %s)", flag, text, namespace)
}

// splitName gives the namespace, empty without a slash, and the name.
func splitName(text string) (namespace, name string) {
	namespace, name, found := strings.Cut(text, "/")
	if !found {
		return "", text
	}
	return namespace, name
}
