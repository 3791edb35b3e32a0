// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"korat/api"
	"korat/policy"
	"korat/policy/chain"
)

// RuleIn gives a rule of a chain by that name, like Rule. In one of our own chains, or if it leads to one, a rule that has nothing
// to tell people goes without its comment, which is most of what it costs a packet that it applies to, if OwnID finds its ID in the
// rest of the text.
func RuleIn(name string, r chain.Rule, f api.Family) (string, error) {
	if r.Comment == "" {
		if text, err := write(r, f, func(*line) {}); err == nil && plainID(name, strings.Fields(text)) == r.ID {
			return text, nil
		}
	}
	return Rule(r, f)
}

// OwnID gives the ID of a rule in one of our own chains, or of one that leads to one of them, in a line of iptables-save's; ""
// if it is not one that RuleIn gives.
func OwnID(line string) string {
	if id := ID(line); id != "" {
		return id
	}
	words := strings.Fields(line)
	if len(words) < 2 {
		return ""
	}
	return plainID(words[1], words[2:])
}

// plainID gives the ID of a rule in a chain by that name, of which the words say everything that it asks for, and what it does, as
// the kernel's chains are printed. It has none if there is anything that is not known here, but for counters, and if nothing says that
// it is ours.
func plainID(name string, words []string) string {
	var conditions []chain.Condition
	for {
		condition, n := plainCondition(words)
		if n == 0 {
			break
		}
		if condition != nil {
			conditions = append(conditions, condition)
		}
		words = words[n:]
	}
	action, ok := plainAction(words)
	if !ok || !strings.HasPrefix(name, ownPrefix) && action.Chain() == "" {
		return ""
	}
	return chain.NewRule("", action, conditions...).ID
}

// plainCondition reads one condition, of so many words; no words if there is none that is known here, and no condition of
// counters.
func plainCondition(words []string) (c chain.Condition, n int) {
	if len(words) < 3 {
		return nil, 0
	}
	switch words[0] {
	case "-c":
		return nil, 3
	case "-i", "-o", "-s", "-d", "-p":
		c, n = plainOption(words[0], words[1]), 2
	case "-m":
		c, n = plainMatch(words[1:])
		n++
	case "!":
		if c = plainNot(words); c != nil {
			return c, 3
		}
	}
	if c == nil {
		return nil, 0
	}
	return c, n
}

// plainOption reads an option of iptables' own.
func plainOption(option, value string) chain.Condition {
	switch option {
	case "-i", "-o":
		if value == "+" { // any interface, which iptables-save does not print
			return nil
		}
		if option == "-i" {
			return chain.In(value)
		}
		return chain.Out(value)
	case "-s", "-d":
		prefix, err := netip.ParsePrefix(value)
		if err != nil || prefix.Bits() == 0 { // any address, likewise
			return nil
		}
		if option == "-s" {
			return chain.Net{Prefix: prefix}
		}
		return chain.Net{Side: chain.Destination, Prefix: prefix}
	case "-p":
		for _, number := range plainProtocols {
			if value == protocol(number) {
				return chain.Proto{Number: number}
			}
		}
	}
	return nil
}

// plainProtocols are those that every iptables calls by the same name, whatever the host's /etc/protocols says.
var plainProtocols = []policy.Protocol{policy.TCP, policy.UDP, policy.SCTP}

// plainNot reads an address that is not to match.
func plainNot(words []string) chain.Condition {
	if net, ok := plainOption(words[1], words[2]).(chain.Net); ok {
		net.Not = true
		return net
	}
	return nil
}

// plainMatch reads a condition of an extension, and says how many words that takes.
func plainMatch(words []string) (c chain.Condition, n int) {
	extension, rest := words[0], words[1:]
	n = 3
	not := len(rest) > 0 && rest[0] == "!"
	if not {
		rest, n = rest[1:], n+1
	}
	if len(rest) < 3 {
		return nil, 0
	}
	option, value := rest[0], rest[1]
	switch extension {
	case "mark", "connmark":
		c = plainMark(extension, option, value, not)
	case "conntrack":
		if option == "--ctstate" && plainStates(value) {
			c = chain.CTState{Not: not, States: value}
		}
	case "devgroup":
		if g, ok := plainGroup(option, value); ok && !not {
			c = g
		}
	case "set":
		c, n = plainSet(option, value, rest[2], not), n+1
	case "tcp", "udp":
		c = plainPorts(strings.Replace(option, "port", "ports", 1), value, not)
	case "multiport":
		c = plainPorts(option, value, not)
	}
	return c, n
}

// plainStates says whether connection states are as iptables-save prints them: each once, in this order.
func plainStates(list string) bool {
	states := strings.Split(list, ",")
	var printed []string
	for _, state := range []string{"INVALID", "NEW", "RELATED", "ESTABLISHED", "UNTRACKED", "SNAT", "DNAT"} {
		if slices.Contains(states, state) {
			printed = append(printed, state)
		}
	}
	return slices.Equal(states, printed)
}

// plainMark reads the mark of a packet or a connection.
func plainMark(extension, option, value string, not bool) chain.Condition {
	v, mask, ok := bits(value)
	switch {
	case !ok || option != "--mark":
		return nil
	case extension == "mark":
		return chain.Mark{Not: not, Value: v, Mask: mask}
	}
	return chain.ConnMark{Not: not, Value: v, Mask: mask}
}

// plainSet reads a set, and what of the packet is to be in it.
func plainSet(option, name, side string, not bool) chain.Condition {
	in := chain.InSet{Not: not, Set: name}
	if option != "--match-set" {
		return nil
	}
	switch side {
	case "src":
	case "src,src":
		in.Port = true
	case "dst":
		in.Side = chain.Destination
	case "dst,dst":
		in.Side, in.Port = chain.Destination, true
	default:
		return nil
	}
	return in
}

// plainPorts reads a list of ports.
func plainPorts(option, value string, not bool) chain.Condition {
	c := chain.Ports{Not: not}
	switch option {
	case "--sports":
	case "--dports":
		c.Side = chain.Destination
	default:
		return nil
	}
	for part := range strings.SplitSeq(value, ",") {
		first, last, isRange := strings.Cut(part, ":")
		if !isRange {
			last = first
		}
		from, err := strconv.ParseUint(first, 10, 16)
		to, err2 := strconv.ParseUint(last, 10, 16)
		if err != nil || err2 != nil || from == 0 { // a range of all ports is not printed
			return nil
		}
		c.Ranges = append(c.Ranges, policy.PortRange{First: uint16(from), Last: uint16(to)})
	}
	return c
}

// plainGroup reads a link group. One of all bits may be printed by a name.
func plainGroup(option, value string) (g chain.LinkGroup, ok bool) {
	switch option {
	case "--src-group":
	case "--dst-group":
		g.Side = chain.Destination
	default:
		return g, false
	}
	g.Value, g.Mask, ok = bits(value)
	return g, ok
}

// plainAction reads what is left of a rule.
func plainAction(words []string) (a chain.Action, ok bool) {
	if len(words) == 4 && words[0] == "-j" && words[1] == "MARK" && words[2] == "--set-xmark" {
		a.Verb = chain.SetMark
		a.Value, a.Mask, ok = bits(words[3])
		return a, ok
	}
	if len(words) != 2 {
		return a, false
	}
	switch to := words[1]; {
	case strings.HasPrefix(to, ownPrefix) && words[0] == "-g":
		return chain.Action{Verb: chain.Goto, Text: to}, true
	case strings.HasPrefix(to, ownPrefix) && words[0] == "-j":
		return chain.Action{Verb: chain.Jump, Text: to}, true
	case words[0] != "-j":
		return a, false
	case to == "ACCEPT":
		return chain.Action{Verb: chain.Accept}, true
	case to == "DROP":
		return chain.Action{Verb: chain.Drop}, true
	case to == "RETURN":
		return chain.Action{Verb: chain.Return}, true
	}
	return a, false
}

// ownPrefix begins the names of our own chains, and of no target of iptables'.
const ownPrefix = "cali-"

// bits reads a mark and its mask as iptables-save prints them, which leaves out a mask of all bits.
func bits(word string) (value, mask uint32, ok bool) {
	if _, err := fmt.Sscanf(word, "0x%x/0x%x", &value, &mask); err != nil {
		return 0, 0, false
	}
	return value, mask, word == fmt.Sprintf("%#x/%#x", value, mask) && mask != allBits
}
