// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"net/netip"
	"strings"
	"testing"

	"korat/api"
	"korat/policy"
	"korat/policy/chain"
	"korat/policy/render"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func rule(action chain.Action, conditions ...chain.Condition) chain.Rule {
	return chain.NewRule("", action, conditions...)
}

var (
	drop = chain.Action{Verb: chain.Drop}
	tcp  = chain.Proto{Number: policy.TCP}
)

// body gives a rule's text without the comment that all have.
func body(t *testing.T, r chain.Rule, f api.Family) string {
	t.Helper()
	text, err := render.Rule(r, f)
	if err != nil {
		t.Fatal(err)
	}
	before, behind, ok := strings.Cut(text, `-m comment --comment "cali:`+r.ID)
	if !ok {
		t.Fatalf("no ID: %s", text)
	}
	if id := render.ID("-A cali-x " + text); id != r.ID {
		t.Errorf("have ID %q of %s, want %q", id, text, r.ID)
	}
	return before + strings.TrimPrefix(behind, `" `)
}

func TestConditions(t *testing.T) {
	for _, c := range []struct {
		want       string
		conditions []chain.Condition
	}{
		{"", nil},
		{"-i cali+", []chain.Condition{chain.In("cali+")}},
		{"-o cali12", []chain.Condition{chain.Out("cali12")}},
		{"-m devgroup --src-group 0x1a2b3c4d", []chain.Condition{chain.LinkGroup{Value: 0x1a2b3c4d, Mask: 1<<32 - 1}}},
		{"-m devgroup --dst-group 0x0/0xe0000000", []chain.Condition{chain.LinkGroup{Side: chain.Destination, Mask: 0xe0000000}}},
		{"-p tcp", []chain.Condition{tcp}},
		{"! -p udp", []chain.Condition{chain.Proto{Not: true, Number: policy.UDP}}},
		{"-p udplite", []chain.Condition{chain.Proto{Number: policy.UDPLite}}},
		{"-p sctp", []chain.Condition{chain.Proto{Number: policy.SCTP}}},
		{"-p 4", []chain.Condition{chain.Proto{Number: 4}}},
		{"-s 10.0.0.0/8", []chain.Condition{chain.Net{Prefix: prefix("10.0.0.0/8")}}},
		{"! -d 10.1.2.3/32", []chain.Condition{chain.Net{Side: chain.Destination, Not: true, Prefix: prefix("10.1.2.3/32")}}},
		{"-s 10.1.0.0/16", []chain.Condition{chain.Net{Prefix: prefix("10.1.2.3/16")}}},
		{"-s 10.0.0.0/8 -m iprange ! --src-range 10.1.0.0-10.1.255.255 -m iprange ! --src-range 10.2.2.2-10.2.2.2", []chain.Condition{
			chain.Net{Prefix: prefix("10.0.0.0/8")},
			chain.Net{Not: true, Prefix: prefix("10.1.0.0/16")},
			chain.Net{Not: true, Prefix: prefix("10.2.2.2/32")},
		}},
		{"-m set --match-set cali40s:abc src", []chain.Condition{chain.InSet{Set: "cali40s:abc"}}},
		{"-m set ! --match-set cali40n:abc dst,dst", []chain.Condition{
			chain.InSet{Side: chain.Destination, Not: true, Set: "cali40n:abc", Port: true},
		}},
		{"-p tcp -m tcp ! --sport 1:1023 -m multiport --dports 80,8000:8010", []chain.Condition{
			// The protocol goes before the ports wherever it stands.
			chain.Ports{Side: chain.Destination, Ranges: []policy.PortRange{{First: 80, Last: 80}, {First: 8000, Last: 8010}}},
			chain.Ports{Not: true, Ranges: []policy.PortRange{{First: 1, Last: 1023}}},
			tcp,
		}},
		{"-p icmp -m icmp --icmp-type 8/0", []chain.Condition{
			chain.Proto{Number: policy.ICMP}, chain.ICMP{ICMPType: policy.ICMPType{Type: 8}},
		}},
		{"-p icmp -m icmp ! --icmp-type 3", []chain.Condition{
			chain.Proto{Number: policy.ICMP}, chain.ICMP{Not: true, ICMPType: policy.ICMPType{Type: 3, Code: -1}},
		}},
		{"-p tcp -m tcp --sport 1024:65535 ! --dport 22 -m multiport ! --dports 80", []chain.Condition{
			// One of each side is for the protocol's own match.
			tcp,
			chain.Ports{Ranges: []policy.PortRange{{First: 1024, Last: 65535}}},
			chain.Ports{Side: chain.Destination, Not: true, Ranges: []policy.PortRange{{First: 22, Last: 22}}},
			chain.Ports{Side: chain.Destination, Not: true, Ranges: []policy.PortRange{{First: 80, Last: 80}}},
		}},
		{"-p udp -m udp --dport 53", []chain.Condition{
			chain.Proto{Number: policy.UDP}, chain.Ports{Side: chain.Destination, Ranges: []policy.PortRange{{First: 53, Last: 53}}},
		}},
		{"-p sctp -m multiport --dports 80", []chain.Condition{
			chain.Proto{Number: policy.SCTP}, chain.Ports{Side: chain.Destination, Ranges: []policy.PortRange{{First: 80, Last: 80}}},
		}},
		// What the kernel tries without an extension comes first.
		{"-o cali+ -m mark --mark 0x0/0x30000 -m conntrack --ctstate INVALID", []chain.Condition{
			chain.CTState{States: "INVALID"}, chain.Mark{Mask: 0x30000}, chain.Out("cali+"),
		}},
		{"-m mark --mark 0x10000/0x30000", []chain.Condition{chain.Mark{Value: 0x10000, Mask: 0x30000}}},
		{"-m mark ! --mark 0x0/0x30000", []chain.Condition{chain.Mark{Not: true, Mask: 0x30000}}},
		{"-m connmark --mark 0x10000/0xffff0000", []chain.Condition{chain.ConnMark{Value: 0x10000, Mask: 0xffff0000}}},
		{"-m connmark ! --mark 0x1/0x1", []chain.Condition{chain.ConnMark{Not: true, Value: 1, Mask: 1}}},
		{"-m conntrack --ctstate RELATED,ESTABLISHED", []chain.Condition{chain.CTState{States: "RELATED,ESTABLISHED"}}},
		{"-m conntrack ! --ctstate DNAT", []chain.Condition{chain.CTState{Not: true, States: "DNAT"}}},
		{"-m addrtype --dst-type LOCAL", []chain.Condition{chain.AddrType{Side: chain.Destination, Type: "LOCAL"}}},
		{"-m addrtype ! --src-type BROADCAST", []chain.Condition{chain.AddrType{Not: true, Type: "BROADCAST"}}},
		{"-m rpfilter --validmark --invert", []chain.Condition{chain.Spoofed{}}},
		{"-m limit --limit 10/sec --limit-burst 5", []chain.Condition{chain.Rate{PerSecond: 10, Burst: 5}}},
	} {
		want := strings.TrimPrefix(c.want+" -j DROP", " ")
		if have := body(t, rule(drop, c.conditions...), api.IPv4); have != want {
			t.Errorf("have %s\nwant %s", have, want)
		}
	}
}

func TestConditionsOfIPv6(t *testing.T) {
	for want, conditions := range map[string][]chain.Condition{
		"-s 2001:db8::/64": {chain.Net{Prefix: prefix("2001:db8::1/64")}},
		"! -d 2001:db8::/64 -m iprange --dst-range 2001:db8:1::-2001:db8:1:ffff:ffff:ffff:ffff:ffff": {
			chain.Net{Side: chain.Destination, Not: true, Prefix: prefix("2001:db8::/64")},
			chain.Net{Side: chain.Destination, Prefix: prefix("2001:db8:1::/48")},
		},
		"-p ipv6-icmp -m icmp6 --icmpv6-type 135": {
			chain.Proto{Number: policy.ICMPv6}, chain.ICMP{ICMPType: policy.ICMPType{Type: 135, Code: -1}},
		},
		"-p ipv6-icmp -m icmp6 ! --icmpv6-type 1/4": {
			chain.Proto{Number: policy.ICMPv6}, chain.ICMP{Not: true, ICMPType: policy.ICMPType{Type: 1, Code: 4}},
		},
	} {
		if have := body(t, rule(drop, conditions...), api.IPv6); have != want+" -j DROP" {
			t.Errorf("have %s\nwant %s -j DROP", have, want)
		}
	}
}

func TestActions(t *testing.T) {
	for want, action := range map[string]chain.Action{
		"-j ACCEPT":                     {},
		"-j DROP":                       drop,
		"-j REJECT":                     {Verb: chain.Reject},
		"-j RETURN":                     {Verb: chain.Return},
		"-j cali-FORWARD":               {Verb: chain.Jump, Text: "cali-FORWARD"},
		"-g cali-pi-knp/shop/allow.web": {Verb: chain.Goto, Text: "cali-pi-knp/shop/allow.web"},
		"-j MARK --set-xmark 0x10000/0x30000": {
			Verb: chain.SetMark, Value: 0x10000, Mask: 0x30000,
		},
		"-j CT --notrack": {Verb: chain.NoTrack},
		`-j NFLOG --nflog-group 2 --nflog-prefix "D|abcdefghijklmnop"`: {Verb: chain.Report, Group: 2, Text: "D|abcdefghijklmnop"},
		"-j NFLOG --nflog-group 0":                                     {Verb: chain.Report},
		"-j LOG":                                                       {Verb: chain.KernelLog},
		`-j LOG --log-prefix "calico-packet: "`:                        {Verb: chain.KernelLog, Text: "calico-packet: "},
		"-j MASQUERADE --random-fully":                                 {Verb: chain.Masquerade},
	} {
		if have := body(t, rule(action), api.IPv4); have != want {
			t.Errorf("have %s\nwant %s", have, want)
		}
	}
}

func TestComments(t *testing.T) {
	for comment, want := range map[string]string{
		"GlobalNetworkPolicy allow-web ingress": "GlobalNetworkPolicy allow-web ingress",
		"a\"b\\c'd`e\nf\x00g\x7fh":              "a_b_c_d_e_f_g_h",
		"Größe, 大きさ":                            "Gr__e, ___",
		"\xff\xfe":                              "__",
		"-t nat -j ACCEPT":                      "-t nat -j ACCEPT",
		"! --comment $(reboot) ; # %s":          "! --comment $(reboot) ; # %s",
		strings.Repeat("x", 300):                strings.Repeat("x", 255-22),
		strings.Repeat("ü", 300):                strings.Repeat("_", 255-22),
	} {
		if have := body(t, chain.NewRule(comment, drop), api.IPv4); have != " "+want+`" -j DROP` {
			t.Errorf("%q: have %s", comment, have)
		}
	}
}

func TestRuleErrors(t *testing.T) {
	ports := func(n int) chain.Ports {
		return chain.Ports{Ranges: make([]policy.PortRange, n)}
	}
	for want, r := range map[string]chain.Rule{
		`chain "cali-x\nCOMMIT": not a name of 1 to 28 bytes of printable ASCII`:                 rule(chain.Action{Verb: chain.Jump, Text: "cali-x\nCOMMIT"}),
		`chain "cali-01234567890123456789abcd": not a name of 1 to 28 bytes of printable ASCII`:  rule(chain.Action{Verb: chain.Goto, Text: "cali-01234567890123456789abcd"}),
		`chain "": not a name of 1 to 28 bytes of printable ASCII`:                               rule(chain.Action{Verb: chain.Jump}),
		`interface "cali 1": not a name of 1 to 15 bytes of printable ASCII`:                     rule(drop, chain.In("cali 1")),
		`interface "cali456789abcdef": not a name of 1 to 15 bytes of printable ASCII`:           rule(drop, chain.Out("cali456789abcdef")),
		`the interface of -i is asked for twice, iptables takes one`:                             rule(drop, chain.In("cali1"), chain.In("cali+")),
		`the protocol is asked for twice, iptables takes one`:                                    rule(drop, tcp, chain.Proto{Not: true, Number: policy.UDP}),
		`protocol 0: matches nothing that could be meant`:                                        rule(drop, chain.Proto{}),
		`prefix 2001:db8::/64: not of IPv4`:                                                      rule(drop, chain.Net{Prefix: prefix("2001:db8::/64")}),
		`prefix invalid Prefix: not of IPv4`:                                                     rule(drop, chain.Net{}),
		`set "cali40s:-0123456789abcdefghijklm": not a name of 1 to 31 bytes of printable ASCII`: rule(drop, chain.InSet{Set: "cali40s:-0123456789abcdefghijklm"}),
		`src ports 80: the rule asks for no protocol that has ports`:                             rule(drop, chain.Ports{Ranges: []policy.PortRange{{First: 80, Last: 80}}}),
		`ports 2:1: the range ends before it begins`:                                             rule(drop, tcp, chain.Ports{Ranges: []policy.PortRange{{First: 2, Last: 1}}}),
		`0,0: 16 ports (a range counts as two), the match takes 1 to 15`:                         rule(drop, tcp, ports(16)),
		`src ports : 0 ports (a range counts as two), the match takes 1 to 15`:                   rule(drop, tcp, ports(0)),
		`icmp 8/0: the rule does not ask for protocol 1, IPv4's ICMP`:                            rule(drop, chain.Proto{Number: 58}, chain.ICMP{ICMPType: policy.ICMPType{Type: 8}}),
		`icmp 255/-1: iptables takes type 255 for any`:                                           rule(drop, chain.Proto{Number: 1}, chain.ICMP{ICMPType: policy.ICMPType{Type: 255, Code: -1}}),
		`icmp 8/256: a code is at most 255`:                                                      rule(drop, chain.Proto{Number: 1}, chain.ICMP{ICMPType: policy.ICMPType{Type: 8, Code: 256}}),
		`connection state "NEW,OLD": "OLD" is none of NEW, ESTABLISHED`:                          rule(drop, chain.CTState{States: "NEW,OLD"}),
		`address type "local": "local" is none of UNSPEC, UNICAST`:                               rule(drop, chain.AddrType{Type: "local"}),
		`rate 0/s burst 5: the rate and the burst must be 1 to 10000`:                            rule(drop, chain.Rate{Burst: 5}),
		`src group 0x3/0x1: has bits that are not in the mask`:                                   rule(drop, chain.LinkGroup{Value: 3, Mask: 1}),
		`mark 0x40000: has bits that are not in the mask 0x30000`:                                rule(chain.Action{Verb: chain.SetMark, Value: 0x40000, Mask: 0x30000}),
		`log prefix "D|\"": only printable ASCII without quotation marks and backslashes can be`: rule(chain.Action{Verb: chain.Report, Text: `D|"`}),
		`log prefix "` + strings.Repeat("x", 64) + `": longer than 63 bytes`:                     rule(chain.Action{Verb: chain.Report, Text: strings.Repeat("x", 64)}),
		`log prefix "` + strings.Repeat("x", 30) + `": longer than 29 bytes`:                     rule(chain.Action{Verb: chain.KernelLog, Text: strings.Repeat("x", 30)}),
		`verb 99: unknown`:                     rule(chain.Action{Verb: 99}),
		`rule " → DROP": has no ID`:            {Action: drop},
		`the rule's ID "cali:a b": not a name`: {ID: "a b", Action: drop},
	} {
		text, err := render.Rule(r, api.IPv4)
		if err == nil {
			t.Errorf("have %s\nwant the error %s", text, want)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("have %v\nwant %s", err, want)
		}
	}
}

func TestID(t *testing.T) {
	for line, want := range map[string]string{
		`-A FORWARD -m comment --comment "cali:wUHhoiAYhphO9Mso" -j cali-FORWARD`: "wUHhoiAYhphO9Mso",
		`-A FORWARD -m comment --comment cali:wUHhoiAYhphO9Mso -j cali-FORWARD`:   "wUHhoiAYhphO9Mso",
		`-A FORWARD -j cali-FORWARD`: "",
		`-A FORWARD -m comment --comment "not cali:wUHhoiAYhphO9Mso" -j ACCEPT`: "",
		`-A FORWARD -m comment --comment "cali:`:                                "",
	} {
		if have := render.ID(line); have != want {
			t.Errorf("%s: have %q, want %q", line, have, want)
		}
	}
}

// dst asks for a destination's port.
func dst(first, last uint16) chain.Ports {
	return chain.Ports{Side: chain.Destination, Ranges: []policy.PortRange{{First: first, Last: last}}}
}

// A rule of ours that has nothing to tell people goes without a comment, and is known again all the same, with counters or not.
func TestOwnRule(t *testing.T) {
	mark := chain.Mark{Value: 0x10000, Mask: 0x30000}
	lead := chain.Action{Verb: chain.Goto, Text: "cali-x"}
	for _, c := range []struct {
		rule chain.Rule
		want string // without a comment; empty if it needs one
	}{
		{rule(drop), "-j DROP"},
		{rule(to("cali-x")), "-j cali-x"},
		{rule(lead, chain.In("cali12+")), "-i cali12+ -g cali-x"},
		{rule(lead, chain.Out("cali12")), "-o cali12 -g cali-x"},
		{rule(lead, chain.LinkGroup{Value: 10, Mask: 1<<32 - 1}), ""}, // it may have a name
		{rule(drop, chain.LinkGroup{Side: chain.Destination, Mask: 0xe0000000}), "-m devgroup --dst-group 0x0/0xe0000000 -j DROP"},
		{rule(chain.Action{Verb: chain.Return}, mark), "-m mark --mark 0x10000/0x30000 -j RETURN"},
		{rule(chain.Action{Verb: chain.Accept}, chain.Mark{Mask: 1}), "-m mark --mark 0x0/0x1 -j ACCEPT"},
		{rule(chain.Action{Verb: chain.SetMark, Mask: 0x30000}), "-j MARK --set-xmark 0x0/0x30000"},
		{rule(drop, chain.In("a"), chain.Out("b")), "-i a -o b -j DROP"},
		{rule(drop, tcp, chain.Net{Prefix: prefix("192.0.2.0/24")}), "-p tcp -s 192.0.2.0/24 -j DROP"},
		{rule(drop, chain.Net{Side: chain.Destination, Not: true, Prefix: prefix("192.0.2.1/32")}), "! -d 192.0.2.1/32 -j DROP"},
		{rule(lead, tcp, chain.InSet{Set: "cali40s:a"}, dst(80, 80)), "-p tcp -m tcp --dport 80 -m set --match-set cali40s:a src -g cali-x"},
		{rule(lead, chain.Proto{Number: policy.UDP}, dst(53, 67)), "-p udp -m udp --dport 53:67 -g cali-x"},
		{rule(lead, chain.Proto{Number: policy.SCTP}, dst(80, 80)), "-p sctp -m multiport --dports 80 -g cali-x"},
		{
			rule(lead, tcp, chain.Ports{Ranges: []policy.PortRange{{First: 80, Last: 80}, {First: 90, Last: 99}}}),
			"-p tcp -m multiport --sports 80,90:99 -g cali-x",
		},
		{
			rule(drop, chain.InSet{Set: "cali40n:a", Port: true}, chain.InSet{Side: chain.Destination, Not: true, Set: "cali40s:b"}),
			"-m set --match-set cali40n:a src,src -m set ! --match-set cali40s:b dst -j DROP",
		},
		{rule(drop, chain.InSet{Set: "a", Side: chain.Destination, Port: true}), "-m set --match-set a dst,dst -j DROP"},
		{chain.NewRule("for people", drop), ""},
		{rule(drop, chain.In("+")), ""},
		{rule(drop, chain.Mark{Not: true, Mask: 1}), "-m mark ! --mark 0x0/0x1 -j DROP"},
		{rule(drop, chain.ConnMark{Not: true, Value: 1, Mask: 3}), "-m connmark ! --mark 0x1/0x3 -j DROP"},
		{rule(drop, chain.CTState{States: "RELATED,ESTABLISHED"}), "-m conntrack --ctstate RELATED,ESTABLISHED -j DROP"},
		{rule(drop, chain.CTState{States: "NEW,NEW"}), ""},
		{rule(drop, chain.CTState{States: "ESTABLISHED,RELATED"}), ""}, // iptables-save has another order
		{rule(drop, chain.CTState{Not: true, States: "DNAT"}), "-m conntrack ! --ctstate DNAT -j DROP"},
		{rule(drop, tcp, chain.Ports{Not: true, Ranges: dst(80, 80).Ranges}), "-p tcp -m tcp ! --sport 80 -j DROP"},
		{rule(drop, chain.AddrType{Type: "LOCAL"}), ""},
		{rule(drop, chain.Mark{Value: 1, Mask: 1<<32 - 1}), ""},
		// What iptables-save would not print, or not by the same name on each host.
		{rule(drop, chain.Net{Prefix: prefix("0.0.0.0/0")}), ""},
		{rule(drop, tcp, dst(0, 65535)), ""},
		{rule(drop, chain.Proto{Number: 47}), ""},
		{rule(drop, chain.Proto{Not: true, Number: policy.TCP}), ""},
		{rule(drop, tcp, dst(80, 80), chain.Ports{Ranges: dst(80, 80).Ranges}), ""},
		{rule(drop, chain.Net{Prefix: prefix("192.0.2.0/24")}, chain.Net{Prefix: prefix("192.0.2.0/25")}), ""},
		{rule(to("KUBE-FORWARD")), ""},
		{rule(chain.Action{Verb: chain.Reject}), ""},
		{rule(chain.Action{Verb: chain.NoTrack}), ""},
		{rule(chain.Action{Verb: chain.Report, Group: 2}), ""},
		{chain.Rule{ID: "anotherID1234567", Action: drop}, ""},
	} {
		have, err := render.RuleIn("cali-y", c.rule, api.IPv4)
		if err != nil {
			t.Fatal(err)
		}
		want := c.want
		if want == "" {
			if want, err = render.Rule(c.rule, api.IPv4); err != nil {
				t.Fatal(err)
			}
		}
		if have != want {
			t.Errorf("%s: have %s, want %s", c.rule, have, want)
		}
		at := max(strings.LastIndex(have, "-j "), strings.LastIndex(have, "-g "))
		for _, line := range []string{"-A cali-y " + have, "-A cali-y " + have[:at] + "-c 12 3456 " + have[at:]} {
			if id := render.OwnID(line); id != c.rule.ID {
				t.Errorf("%s: have ID %q, want %q", line, id, c.rule.ID)
			}
		}
	}
	// iptables-save has an order of its own.
	want := rule(drop, tcp, chain.In("a"), chain.Net{Prefix: prefix("192.0.2.0/24")}).ID
	if have := render.OwnID("-A cali-y -s 192.0.2.0/24 -i a -p tcp -j DROP"); have != want {
		t.Errorf("have ID %q of a rule in another order, want %q", have, want)
	}
	// In the kernel's own chains rules are known by where they lead.
	for action, want := range map[chain.Action]string{lead: "-g cali-x", drop: `-m comment --comment "cali:` + rule(drop).ID + `" -j DROP`} {
		if have, err := render.RuleIn("FORWARD", rule(action), api.IPv4); err != nil || have != want {
			t.Errorf("have %s, %v, want %s", have, err, want)
		}
	}
	for _, line := range []string{
		"", "-A cali-y", "-A cali-y -j", "-A cali-y -i a", "-A cali-y ! -i a -j DROP", "-A cali-y -g DROP", "-A cali-y -j LOG",
		"-A cali-y -m mark --mark 0x1 -j DROP", "-A cali-y -p gre -j DROP", "-A cali-y -j DROP -i a", "-A cali-y ! -p tcp -j DROP",
		"-A cali-y -s 0.0.0.0/0 -j DROP", "-A cali-y -s 192.0.2.0 -j DROP", "-A cali-y -m set --match-set a src,dst -j DROP",
		"-A cali-y -m set ! --match-set -j DROP", "-A cali-y -m set --match-set", "-A cali-y -m set ! -j DROP", "-A cali-y -m -j DROP",
		"-A cali-y -m conntrack --ctorigdst 192.0.2.1 -j DROP", "-A cali-y -m connmark --mark 0x1 -j DROP", "-A cali-y -p tcp -m tcp --dport http -j DROP", "-A cali-y -p tcp -m tcp --tcp-flags SYN SYN -j DROP",
		"-A cali-y -p tcp -m multiport --ports 80 -j DROP", "-A cali-y -p tcp -m multiport --dports 80,x -j DROP",
		"-A cali-y -m devgroup --src-group 0xa -j DROP", "-A cali-y -m devgroup --src-group 0xa/0xffffffff -j DROP",
		"-A cali-y -m devgroup ! --src-group 0xa -j DROP", "-A cali-y -m devgroup --src-group 0xa --dst-group 0xa -j DROP",
		"-A cali-y -m devgroup --src-group default -j DROP", "-A cali-y -m devgroup --src-group 0x1a2b3c4d5 -j DROP",
		"-A cali-y -m mark --mark 1/1 -j DROP", "-A cali-y -j MARK --set-xmark 0x1/0x1x", "-A cali-y -j MARK --or-mark 0x1/0x1",
	} {
		if id := render.OwnID(line); id != "" {
			t.Errorf("%s: have ID %q, want none", line, id)
		}
	}
}

func TestSet(t *testing.T) {
	for _, c := range []struct {
		key     policy.SetKey
		members []policy.Member
		want    string
	}{
		{
			policy.SetKey{Name: "cali40s:a", Family: api.IPv4},
			[]policy.Member{{Prefix: prefix("10.0.0.2/32")}, {Prefix: prefix("10.0.0.0/24")}},
			"create cali40s:a hash:net family inet maxelem 1048576\nadd cali40s:a 10.0.0.0/24\nadd cali40s:a 10.0.0.2\n",
		},
		{
			policy.SetKey{Name: "cali60n:a", Family: api.IPv6, Kind: policy.AddressPorts},
			[]policy.Member{{Prefix: prefix("2001:db8::1/128"), Protocol: policy.SCTP, Port: 80}},
			"create cali60n:a hash:ip,port family inet6 maxelem 1048576\nadd cali60n:a 2001:db8::1,sctp:80\n",
		},
		{
			policy.SetKey{Name: "cali40p:a", Family: api.IPv4, Kind: policy.PortNumbers},
			[]policy.Member{{Port: 80}, {Port: 443}},
			"create cali40p:a bitmap:port range 0-65535\nadd cali40p:a 443\nadd cali40p:a 80\n",
		},
	} {
		have, err := render.Set(c.key, c.members)
		if err != nil || have != c.want {
			t.Errorf("have %s, %v\nwant %s", have, err, c.want)
		}
	}
	for want, c := range map[string]struct {
		key    policy.SetKey
		member policy.Member
	}{
		`set "a b": not a name`: {key: policy.SetKey{Name: "a b"}},
		`set a: kind 9`:         {key: policy.SetKey{Name: "a", Kind: 9}},
		`set a: member 2001:db8::/64: no prefix of IPv4`:                {policy.SetKey{Name: "a", Family: api.IPv4}, policy.Member{Prefix: prefix("2001:db8::/64")}},
		`set a: member 0.0.0.0/0: hash:net holds no prefix of length 0`: {policy.SetKey{Name: "a", Family: api.IPv4}, policy.Member{Prefix: prefix("0.0.0.0/0")}},
	} {
		if _, err := render.Set(c.key, []policy.Member{c.member}); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("have %v, want %s", err, want)
		}
	}
}
