// SPDX-License-Identifier: Apache-2.0

package render

import (
	"errors"
	"fmt"
	"strings"

	"korat/api"
	"korat/policy"
	"korat/policy/chain"
)

// Rule gives a rule as it follows a command and a chain's name ("-A cali-FORWARD ") in iptables-restore's text.
func Rule(r chain.Rule, f api.Family) (string, error) {
	return write(r, f, func(l *line) { l.comment(r) })
}

// write gives a rule with what is to stand before its action.
func write(r chain.Rule, f api.Family, before func(*line)) (string, error) {
	if r.ID == "" {
		return "", fmt.Errorf("rule %q: has no ID", r.String())
	}
	l := line{family: f}
	if err := name("the rule's ID", prefix+r.ID, maxComment); err != nil {
		return "", err
	}
	// What iptables itself matches comes before what its extensions do: some of these ask for -p.
	for _, c := range r.Conditions {
		l.basic(c)
	}
	// The kernel tries one after the other, so what it does in no time comes first. A comment is a match, too, and
	// costs iptables-nft as much as five of an address: as the last it costs that only where the rule applies.
	for _, c := range l.native(r.Conditions) {
		l.extended(c)
	}
	before(&l)
	l.action(r.Action)
	if len(l.text) > maxLine {
		l.fail(fmt.Errorf("%d bytes long, iptables-restore takes %d", len(l.text), maxLine))
	}
	if l.err != nil {
		return "", fmt.Errorf("rule %q: %w", r.String(), l.err)
	}
	return string(l.text), nil
}

// comment adds the rule's ID, and what is for people.
func (l *line) comment(r chain.Rule) {
	text := prefix + r.ID
	if r.Comment != "" {
		text += " " + r.Comment
	}
	l.add("-m comment --comment", quote(text, maxComment))
}

// ID gives the ID of a rule in a line of iptables-save's, and "" if it has none.
func ID(line string) string {
	for _, before := range []string{` --comment "` + prefix, ` --comment ` + prefix} {
		_, rest, found := strings.Cut(line, before)
		if !found {
			continue
		}
		if end := strings.IndexAny(rest, `" `); end > 0 {
			return rest[:end]
		}
	}
	return ""
}

// line is a rule in the making.
type line struct {
	family api.Family
	text   []byte
	err    error
	// Each of these can be said once.
	in, out, proto, source, destination bool
	// number is the protocol that is asked for, and 0 if none is.
	number policy.Protocol
}

func (l *line) add(words ...string) {
	for _, w := range words {
		if len(l.text) > 0 {
			l.text = append(l.text, ' ')
		}
		l.text = append(l.text, w...)
	}
}

func (l *line) fail(err error) { l.err = errors.Join(l.err, err) }

// once fails if a thing that can be said once was said before.
func (l *line) once(said *bool, what string) {
	if *said {
		l.fail(fmt.Errorf("%s is asked for twice, iptables takes one", what))
	}
	*said = true
}

func (l *line) action(a chain.Action) {
	switch a.Verb {
	case chain.Accept:
		l.add("-j ACCEPT")
	case chain.Drop:
		l.add("-j DROP")
	case chain.Reject:
		l.add("-j REJECT")
	case chain.Return:
		l.add("-j RETURN")
	case chain.Jump:
		l.lead("-j", a.Text)
	case chain.Goto:
		l.lead("-g", a.Text)
	case chain.SetMark:
		if a.Value&^a.Mask != 0 {
			l.fail(fmt.Errorf("mark %#x: has bits that are not in the mask %#x", a.Value, a.Mask))
		}
		l.add(fmt.Sprintf("-j MARK --set-xmark %#x/%#x", a.Value, a.Mask))
	case chain.NoTrack:
		l.add("-j CT --notrack")
	case chain.Report:
		l.add(fmt.Sprintf("-j NFLOG --nflog-group %d", a.Group))
		l.log("--nflog-prefix", a.Text, maxReport)
	case chain.KernelLog:
		l.add("-j LOG")
		l.log("--log-prefix", a.Text, maxLog)
	case chain.Masquerade:
		l.add("-j MASQUERADE --random-fully")
	default:
		l.fail(fmt.Errorf("verb %d: unknown", a.Verb))
	}
}

func (l *line) lead(how, to string) {
	if err := name("chain", to, chain.MaxName); err != nil {
		l.fail(err)
	}
	l.add(how, to)
}

// log adds a log's prefix. An empty word iptables-restore does not see, quotation marks or not.
func (l *line) log(option, text string, longest int) {
	if text == "" {
		return
	}
	quoted, err := exact("log prefix", text, longest)
	if err != nil {
		l.fail(err)
	}
	l.add(option, quoted)
}
