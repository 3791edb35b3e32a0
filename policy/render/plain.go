// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"strconv"
	"strings"

	"korat/api"
	"korat/policy/chain"
)

// OwnRule gives a rule of one of our own chains, like Rule. One that has nothing to tell people goes without its comment,
// which is most of what such a rule costs a packet that it applies to, if OwnID finds its ID in the rest of the text.
func OwnRule(r chain.Rule, f api.Family) (string, error) {
	if r.Comment == "" && len(r.Conditions) <= 1 {
		if text, err := write(r, f, func(*line) {}); err == nil && plainID(strings.Fields(text)) == r.ID {
			return text, nil
		}
	}
	return Rule(r, f)
}

// OwnID gives the ID of a rule in one of our own chains, in a line of iptables-save's; "" if it is not one that OwnRule
// gives.
func OwnID(line string) string {
	if id := ID(line); id != "" {
		return id
	}
	words := strings.Fields(line)
	if len(words) < 2 {
		return ""
	}
	return plainID(words[2:])
}

// plainID gives the ID of a rule of which the words say everything: at most an interface, its group or a mark, and where it leads, or
// a mark to set. It has none if there is anything else, but for counters.
func plainID(words []string) string {
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
	if !ok || len(conditions) > 1 {
		return ""
	}
	return chain.NewRule("", action, conditions...).ID
}

// plainCondition reads one condition, of so many words; no words if there is none that is known here, and no condition of
// counters.
func plainCondition(words []string) (c chain.Condition, n int) {
	switch {
	case len(words) > 2 && words[1] == "+": // any interface, which iptables-save does not print
	case len(words) > 2 && words[0] == "-i":
		return chain.In(words[1]), 2
	case len(words) > 2 && words[0] == "-o":
		return chain.Out(words[1]), 2
	case len(words) > 3 && words[0] == "-c":
		return nil, 3
	case len(words) > 4 && words[0] == "-m" && words[1] == "mark" && words[2] == "--mark":
		if value, mask, ok := bits(words[3]); ok {
			return chain.Mark{Value: value, Mask: mask}, 4
		}
	case len(words) > 4 && words[0] == "-m" && words[1] == "devgroup":
		if g, ok := plainGroup(words[2], words[3]); ok {
			return g, 4
		}
	}
	return nil, 0
}

// plainGroup reads a link group.
func plainGroup(option, value string) (g chain.LinkGroup, ok bool) {
	switch option {
	case "--src-group":
	case "--dst-group":
		g.Side = chain.Destination
	default:
		return g, false
	}
	if !strings.Contains(value, "/") {
		n, err := strconv.ParseUint(value, 0, 32)
		g.Value, g.Mask = uint32(n), allBits
		return g, err == nil && value == fmt.Sprintf("%#x", n)
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
