// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"net/netip"
	"strings"
	"testing"

	"korat/api"
	"korat/policy"
	"korat/policy/chain"
	"korat/policy/render"
)

func textOf(t *testing.T, f api.Family, c chains) string {
	t.Helper()
	text, err := render.Text(f, c)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// everything has every condition and every verb in a table that takes it, in a chain of ours and once more in one of
// the kernel's own.
func everything(f api.Family) chains {
	all := chains{
		key(f, chain.Filter, "cali-conditions"): rules(conditions(f)...),
		key(f, chain.Filter, "FORWARD"): {
			Rules: append(conditions(f), chain.NewRule("", jump("cali-conditions")), chain.NewRule("", chain.Action{Verb: chain.Goto, Text: "cali-conditions"})),
			Last:  []chain.Rule{chain.NewRule("last", accept, chain.Mark{Value: 0x10000, Mask: 0x10000})},
		},
		key(f, chain.Raw, "PREROUTING"): rules(
			chain.NewRule("", drop, chain.In("cali+"), chain.Spoofed{}),
			chain.NewRule("", chain.Action{Verb: chain.NoTrack}, chain.In("cali1")),
		),
		key(f, chain.NAT, "POSTROUTING"): rules(chain.NewRule("", chain.Action{Verb: chain.Masquerade}, chain.Out("eth0"))),
	}
	verbs := &chain.Chain{}
	for _, a := range []chain.Action{
		accept, drop,
		{Verb: chain.Reject},
		{Verb: chain.Return},
		jump("cali-conditions"),
		{Verb: chain.Goto, Text: "cali-conditions"},
		{Verb: chain.SetMark, Value: 0x30000, Mask: 0xffff0000},
		{Verb: chain.SetMark, Mask: 0x30000},
		{Verb: chain.Report, Group: 2, Text: "D|abcdefghijklmnop"},
		{Verb: chain.Report, Group: 65535, Text: strings.Repeat("x", 63)},
		{Verb: chain.Report, Group: 2},
		{Verb: chain.KernelLog},
		{Verb: chain.KernelLog, Text: "calico-packet: "},
		{Verb: chain.KernelLog, Text: strings.Repeat("x", 29)},
	} {
		verbs.Rules = append(verbs.Rules, chain.NewRule("", a), chain.NewRule("with a comment", a, chain.In("cali+")))
	}
	all[key(f, chain.Filter, "cali-verbs")] = verbs
	comments := &chain.Chain{}
	for _, text := range []string{"a", "-t", "!", "#", `"\'`, "ünïcode ☃", strings.Repeat("long ", 60), "$(reboot)", "%s %d", " ", "a\nCOMMIT\n"} {
		comments.Rules = append(comments.Rules, chain.NewRule(text, drop))
	}
	all[key(f, chain.Filter, "cali-comments")] = comments
	return all
}

// conditions gives rules with each condition.
func conditions(f api.Family) []chain.Rule {
	net, other, host, icmp, prefix := "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", policy.ICMP, "cali40"
	if f == api.IPv6 {
		net, other, host, icmp, prefix = "2001:db8::/32", "2001:db8:1::/48", "2001:db8:1::1/128", policy.ICMPv6, "cali60"
	}
	p, tcp := netip.MustParsePrefix, chain.Proto{Number: policy.TCP}
	ranges := []policy.PortRange{{First: 0, Last: 0}, {First: 80, Last: 81}, {First: 65535, Last: 65535}}
	full := make([]policy.PortRange, 15)
	for i := range full {
		full[i] = policy.PortRange{First: uint16(i), Last: uint16(i)}
	}
	var all []chain.Rule
	for _, c := range [][]chain.Condition{
		{chain.In("cali+")},
		{chain.In("cali23456789abc")},
		{chain.In("+")},
		{chain.Out("cali2+")},
		{chain.Out("eth0"), chain.In("+")},
		{tcp},
		{chain.Proto{Not: true, Number: policy.UDP}},
		{chain.Proto{Number: 4}},
		{chain.Proto{Number: 255}},
		{chain.Proto{Number: policy.UDPLite}},
		{chain.Net{Prefix: p(net)}, chain.Net{Side: chain.Destination, Prefix: p(host)}},
		{chain.Net{Not: true, Prefix: p(net)}},
		{chain.Net{Prefix: p(net)}, chain.Net{Not: true, Prefix: p(other)}, chain.Net{Not: true, Prefix: p(host)}, chain.Net{Side: chain.Destination, Not: true, Prefix: p(host)}},
		{chain.InSet{Set: prefix + "a"}},
		{chain.InSet{Set: prefix + "a", Side: chain.Destination, Not: true}},
		{tcp, chain.InSet{Set: prefix + "b", Side: chain.Destination, Port: true}},
		{tcp, chain.InSet{Set: "cali40p", Side: chain.Destination}, chain.InSet{Set: "cali40p", Not: true}},
		{tcp, chain.Ports{Ranges: ranges}},
		{chain.Proto{Number: policy.SCTP}, chain.Ports{Side: chain.Destination, Ranges: full}, chain.Ports{Not: true, Ranges: ranges}},
		{chain.Proto{Number: policy.UDPLite}, chain.Ports{Side: chain.Destination, Not: true, Ranges: ranges[:1]}},
		{chain.Proto{Number: 33}, chain.Ports{Ranges: ranges}},
		{chain.Proto{Number: icmp}, chain.ICMP{ICMPType: policy.ICMPType{Type: 8, Code: -1}}},
		{chain.Proto{Number: icmp}, chain.ICMP{Not: true, ICMPType: policy.ICMPType{Type: 254, Code: 255}}},
		{chain.Mark{Value: 0x10000, Mask: 0x30000}},
		{chain.Mark{Mask: 0xffff0000}},
		{chain.ConnMark{Value: 0x10000, Mask: 0xffff0000}},
		{chain.ConnMark{Not: true, Value: 0x10000, Mask: 0xffff0000}},
		{chain.CTState{States: "NEW,ESTABLISHED,RELATED"}},
		{chain.CTState{Not: true, States: "INVALID,UNTRACKED"}},
		{chain.CTState{States: "DNAT"}},
		{chain.CTState{Not: true, States: "SNAT"}},
		{chain.AddrType{Type: "LOCAL"}},
		{chain.AddrType{Side: chain.Destination, Not: true, Type: "MULTICAST"}},
		{chain.Rate{PerSecond: 1, Burst: 1}},
		{chain.Rate{PerSecond: 10_000, Burst: 10_000}},
	} {
		all = append(all, chain.NewRule("", drop, c...))
	}
	return all
}
