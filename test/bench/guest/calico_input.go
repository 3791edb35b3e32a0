// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"korat/felix/kernel"
)

// laid are chains of the filter table as Felix lays them out: the lines that append their rules.
type laid map[string][]string

// chains gives what was written.
func (f *felix) chains() laid {
	l := laid{}
	for line := range strings.Lines(f.String()) {
		name, _, _ := strings.Cut(strings.TrimLeft(strings.TrimPrefix(line, "-A "), ":"), " ")
		if line[0] == ':' {
			l[name] = nil
		} else {
			l[name] = append(l[name], line)
		}
	}
	return l
}

// change gives the text by which Felix makes the chains want of those that it has. Of the nft backend it writes each chain
// that is another one anew as a whole. Of the legacy one it replaces the rules from the first that is another one on, as the
// ID of each is a hash of all before it.
func (l laid) change(want laid, b kernel.Backend) string {
	var f felix
	f.table("filter")
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(want)), func(name string) bool {
		have, known := l[name]
		return known && slices.Equal(have, want[name])
	})
	for _, name := range names {
		if _, known := l[name]; !known || b == kernel.NFT {
			fmt.Fprintf(&f, ":%s - -\n", name)
		}
	}
	for _, name := range names {
		if b == kernel.NFT {
			f.WriteString(strings.Join(want[name], ""))
		} else {
			f.replace(name, l[name], want[name])
		}
	}
	f.commit()
	return f.String()
}

// replace writes rules in the place of others.
func (f *felix) replace(name string, have, want []string) {
	same := 0
	for same < min(len(have), len(want)) && have[same] == want[same] {
		same++
	}
	for i := same; i < len(want); i++ {
		if i < len(have) {
			fmt.Fprintf(f, "-R %s %d%s", name, i+1, strings.TrimPrefix(want[i], "-A "+name))
		} else {
			f.WriteString(want[i])
		}
	}
	for range len(have) - len(want) {
		fmt.Fprintf(f, "-D %s %d\n", name, len(want)+1)
	}
}

// felixGroup is the chain of all policies that select the endpoints of a group; the way is "i" to them or "o" from them.
func felixGroup(way string, group int) string { return fmt.Sprintf("cali-g%s-%020d", way, group) }

func felixPolicy(way string, j int) string { return fmt.Sprintf("cali-p%s-gnp/policy-%d", way, j) }

func felixSet(role int) string { return fmt.Sprintf("cali40s:%022d", role) }

// felix gives the chains of the filter table that depend on the input, for so many endpoints.
func (in Input) felix(endpoints int) laid {
	var f felix
	f.tree(endpoints)
	for i := range endpoints {
		f.workload(in, i)
	}
	for group := range in.Groups {
		f.group(in, group)
	}
	for j := range in.Policies {
		f.policy(in, j, 0)
	}
	for way, name := range map[string]string{"ingress": "cali-pri-kns.default", "egress": "cali-pro-kns.default"} {
		f.chain(name)
		f.rule(name, "", "-j MARK --set-xmark 0x10000/0x10000", "Profile kns.default "+way)
	}
	return f.chains()
}

// tree are the dispatch chains, of two levels: by the first character that is not the same in all names, and by names.
func (f *felix) tree(endpoints int) {
	first, last := inputInterface(0), inputInterface(endpoints-1)
	common := 0
	for common < len(first) && first[common] == last[common] {
		common++
	}
	stems := map[string][]string{}
	for i := range endpoints {
		name := inputInterface(i)
		stem := name[:min(common+1, len(name))]
		stems[stem] = append(stems[stem], name)
	}
	for _, way := range []struct{ root, option, leaf string }{
		{"cali-from-wl-dispatch", "-i ", "cali-fw-"}, {"cali-to-wl-dispatch", "-o ", "cali-tw-"},
	} {
		f.chain(way.root)
		for _, stem := range slices.Sorted(maps.Keys(stems)) {
			if len(stems[stem]) == 1 {
				f.rule(way.root, way.option+stems[stem][0], "-g "+way.leaf+stems[stem][0])
				continue
			}
			branch := way.root + "-" + stem[common:]
			f.chain(branch)
			f.rule(way.root, way.option+stem+"+", "-g "+branch)
			for _, name := range stems[stem] {
				f.rule(branch, way.option+name, "-g "+way.leaf+name)
			}
			f.unknown(branch)
		}
		f.unknown(way.root)
	}
}

// workload are the chains of endpoint i.
func (f *felix) workload(in Input, i int) {
	group := i % in.Groups
	for _, way := range []struct{ chain, policies, profile string }{
		{"cali-tw-", felixGroup("i", group), "cali-pri-kns.default"}, {"cali-fw-", felixGroup("o", group), "cali-pro-kns.default"},
	} {
		name := way.chain + inputInterface(i)
		f.chain(name)
		f.endpoint(name, way.chain == "cali-fw-")
		f.tier(name, way.policies)
		f.rule(name, "", "-j "+way.profile)
		f.rule(name, "", "-m mark --mark 0x10000/0x10000 -j RETURN", "Return if profile accepted")
		f.rule(name, "", "-j DROP", "Drop if no profiles matched")
	}
}

// group are the policies that select the same endpoints: after five of them a look at whether it is decided.
func (f *felix) group(in Input, group int) {
	const stride = 5
	for _, way := range []string{"i", "o"} {
		name := felixGroup(way, group)
		f.chain(name)
		for n, j := 0, group; j < in.Policies; n, j = n+1, j+in.Groups {
			undecided := "-m mark --mark 0x0/0x30000 "
			if n%stride == 0 {
				undecided = ""
				if n > 0 {
					f.rule(name, "", "-m mark ! --mark 0x0/0x30000 -j RETURN")
				}
			}
			f.rule(name, "", undecided+"-j "+felixPolicy(way, j))
		}
	}
}

// policy are the chains of a variant of policy j.
func (f *felix) policy(in Input, j, variant int) {
	const accept, accepted = "-j MARK --set-xmark 0x10000/0x10000", "-m mark --mark 0x10000/0x10000 -j RETURN"
	p := in.policy(j, variant)
	from, to := felixPolicy("o", j), felixPolicy("i", j)
	f.chain(from)
	f.rule(from, "", accept, "GlobalNetworkPolicy "+p.Name+" egress")
	f.chain(to)
	for k := range 4 {
		var remark []string
		if k == 0 {
			remark = append(remark, "GlobalNetworkPolicy "+p.Name+" ingress")
		}
		ports := p.Spec.Ingress[k].Destination.Ports
		f.rule(to, "-p tcp", fmt.Sprintf("-m set --match-set %s src -m multiport --dports %d,%d:%d %s",
			felixSet((j+k)%7), ports[0].First, ports[1].First, ports[1].Last, accept), remark...)
		f.rule(to, "", accepted)
	}
	// What is one of several goes by a mark of its own. The last rule's mark is seen by the caller.
	f.rule(to, "", "-j MARK --set-xmark 0x0/0x180000")
	for _, net := range p.Spec.Ingress[4].Source.Nets {
		f.rule(to, "-s "+net, "-j MARK --set-xmark 0x80000/0x80000")
	}
	f.rule(to, "-p udp", "-m multiport --dports 53 -m mark --mark 0x80000/0x80000 "+accept)
}
