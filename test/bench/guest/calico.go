// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"fmt"
	"strings"
)

// felix writes chains in the shape of Felix's. Each rule has a comment as long as its own.
type felix struct{ strings.Builder }

// felixID takes the place of the IDs that Felix gives rules.
const felixID = ` -m comment --comment "cali:0123456789abcdef"`

func (f *felix) chain(name string) { fmt.Fprintf(f, ":%s - [0:0]\n", name) }

// rule adds a rule: what iptables itself matches, what stands behind the comment, and the remark that some rules have.
func (f *felix) rule(chain, basic, rest string, remark ...string) {
	fmt.Fprintf(f, "-A %s %s%s", chain, basic, felixID)
	for _, r := range remark {
		fmt.Fprintf(f, " -m comment --comment %q", r)
	}
	fmt.Fprintf(f, " %s\n", rest)
}

func (f *felix) table(name string) { fmt.Fprintf(f, "*%s\n", name) }

func (f *felix) commit() { f.WriteString("COMMIT\n") }

// calico gives what Felix makes of the policy that our chains are measured with.
func (p *Path) calico(set string) string {
	var f felix
	f.early()
	f.table("filter")
	f.forward()
	for _, c := range []string{"cali-from-hep-forward", "cali-to-hep-forward", "cali-cidr-block", "cali-po-gnp/web", "cali-pi-gnp/web"} {
		f.chain(c)
	}
	f.rule("cali-FORWARD", "", "-j cali-to-hep-forward")
	f.rule("cali-FORWARD", "", "-j cali-cidr-block")
	for _, name := range p.names {
		f.leaf(name)
		for _, way := range []struct{ chain, policy string }{{"cali-fw-" + name, "cali-po-gnp/web"}, {"cali-tw-" + name, "cali-pi-gnp/web"}} {
			f.endpoint(way.chain, strings.HasPrefix(way.chain, "cali-fw"))
			f.tier(way.chain, way.policy)
		}
	}
	f.unknown("cali-from-wl-dispatch")
	f.unknown("cali-to-wl-dispatch")
	for _, proto := range []string{"-p udp", "-p tcp"} {
		f.rule("cali-po-gnp/web", proto, fmt.Sprintf("-m multiport --dports %d -j MARK --set-xmark 0x10000/0x10000", pathPort))
		f.rule("cali-po-gnp/web", "", "-m mark --mark 0x10000/0x10000 -j RETURN")
		f.rule("cali-pi-gnp/web", proto, fmt.Sprintf("-m set --match-set %s src -m multiport --dports %d -j MARK --set-xmark 0x10000/0x10000", set, pathPort))
		f.rule("cali-pi-gnp/web", "", "-m mark --mark 0x10000/0x10000 -j RETURN")
	}
	f.commit()
	return f.String()
}

// early is what stands in raw and mangle.
func (f *felix) early() {
	f.table("raw")
	for _, c := range []string{"cali-PREROUTING", "cali-rpf-skip", "cali-from-host-endpoint"} {
		f.chain(c)
	}
	f.rule("PREROUTING", "", "-j cali-PREROUTING")
	f.rule("cali-PREROUTING", "", "-j MARK --set-xmark 0x0/0x1b0000")
	f.rule("cali-PREROUTING", "-p udp", "-m udp --dport 4789 -j NOTRACK")
	f.rule("cali-PREROUTING", "-i cali+", "-j MARK --set-xmark 0x80000/0x80000")
	f.rule("cali-PREROUTING", "", "-m mark --mark 0x80000/0x80000 -j cali-rpf-skip")
	f.rule("cali-PREROUTING", "", "-m mark --mark 0x80000/0x80000 -m rpfilter --validmark --invert -j DROP")
	f.rule("cali-PREROUTING", "", "-m mark --mark 0x0/0x80000 -j cali-from-host-endpoint")
	f.rule("cali-PREROUTING", "", "-m mark --mark 0x10000/0x10000 -j ACCEPT")
	f.commit()
	f.table("mangle")
	for _, c := range []string{"cali-POSTROUTING", "cali-PREROUTING", "cali-from-host-endpoint", "cali-to-host-endpoint"} {
		f.chain(c)
	}
	f.rule("PREROUTING", "", "-j cali-PREROUTING")
	f.rule("POSTROUTING", "", "-j cali-POSTROUTING")
	f.rule("cali-POSTROUTING", "", "-m mark --mark 0x10000/0x10000 -j RETURN")
	f.rule("cali-POSTROUTING", "", "-j MARK --set-xmark 0x0/0x1b0000")
	f.rule("cali-POSTROUTING", "", "-m conntrack --ctstate DNAT -j cali-to-host-endpoint")
	f.rule("cali-POSTROUTING", "", "-m mark --mark 0x10000/0x10000 -j RETURN", "Host endpoint policy accepted packet.")
	f.rule("cali-PREROUTING", "", "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
	f.rule("cali-PREROUTING", "", "-m mark --mark 0x10000/0x10000 -j ACCEPT")
	f.rule("cali-PREROUTING", "", "-j cali-from-host-endpoint")
	f.rule("cali-PREROUTING", "", "-m mark --mark 0x10000/0x10000 -j ACCEPT", "Host endpoint policy accepted packet.")
	f.commit()
}

// forward leads to the dispatch chains.
func (f *felix) forward() {
	for _, c := range []string{"cali-FORWARD", "cali-from-wl-dispatch", "cali-to-wl-dispatch"} {
		f.chain(c)
	}
	f.rule("FORWARD", "", "-j cali-FORWARD")
	f.rule("FORWARD", "", "-m mark --mark 0x10000/0x10000 -j ACCEPT", "Policy explicitly accepted packet.")
	f.rule("cali-FORWARD", "", "-j MARK --set-xmark 0x0/0x1a0000")
	f.rule("cali-FORWARD", "-i cali+", "-j cali-from-wl-dispatch")
	f.rule("cali-FORWARD", "-o cali+", "-j cali-to-wl-dispatch")
}

// leaf leads from the dispatch chains to a pod's.
func (f *felix) leaf(name string) {
	f.chain("cali-fw-" + name)
	f.chain("cali-tw-" + name)
	f.rule("cali-from-wl-dispatch", "-i "+name, "-g cali-fw-"+name)
	f.rule("cali-to-wl-dispatch", "-o "+name, "-g cali-tw-"+name)
}

// endpoint begins a pod's chain.
func (f *felix) endpoint(chain string, from bool) {
	f.rule(chain, "", "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
	f.rule(chain, "", "-m conntrack --ctstate INVALID -j DROP")
	f.rule(chain, "", "-j MARK --set-xmark 0x0/0x30000")
	if from {
		f.rule(chain, "-p udp", "-m multiport --dports 4789 -j DROP", "Drop VXLAN encapped packets originating in workloads")
		f.rule(chain, "-p ipencap", "-j DROP", "Drop IPinIP encapped packets originating in workloads")
	}
}

// tier goes on with the only tier, whose policies are in another chain.
func (f *felix) tier(chain, policies string) {
	f.rule(chain, "", "-j MARK --set-xmark 0x0/0x20000", "Start of tier default")
	f.rule(chain, "", "-m mark --mark 0x0/0x20000 -j "+policies)
	f.rule(chain, "", "-m mark --mark 0x10000/0x10000 -j RETURN", "Return if policy accepted")
	f.rule(chain, "", "-m mark --mark 0x0/0x20000 -j DROP", "End of tier default. Drop if no policies passed packet")
}

func (f *felix) unknown(chain string) { f.rule(chain, "", "-j DROP", "Unknown interface") }

// tree gives the dispatch chains alone: one for each character that more than one name goes on with. A pod's chain
// accepts everything.
func (p *Path) tree() string {
	var f felix
	f.table("filter")
	f.forward()
	f.chain("cali-allow")
	f.rule("cali-allow", "", "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
	f.rule("cali-allow", "", "-j MARK --set-xmark 0x10000/0x10000")
	for _, way := range []struct{ root, option string }{{"cali-from-wl-dispatch", "-i "}, {"cali-to-wl-dispatch", "-o "}} {
		for rest := p.names; len(rest) > 0; {
			stem, n := rest[0][:5], 0
			for n < len(rest) && strings.HasPrefix(rest[n], stem) {
				n++
			}
			if n == 1 {
				f.rule(way.root, way.option+rest[0], "-g cali-allow")
			} else {
				branch := way.root + "-" + stem[4:]
				f.chain(branch)
				f.rule(way.root, way.option+stem+"+", "-g "+branch)
				for _, name := range rest[:n] {
					f.rule(branch, way.option+name, "-g cali-allow")
				}
				f.unknown(branch)
			}
			rest = rest[n:]
		}
		f.unknown(way.root)
	}
	f.commit()
	return f.String()
}
