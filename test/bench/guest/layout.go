// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"

	"korat/api"
	"korat/policy"
	"korat/policy/compile"
	"korat/policy/render"
	"korat/policy/selector"
)

// Layouts are chains for the pods of a Path, as iptables-restore's text.
type Layouts struct {
	// Ours are of pods with a policy, and Calico's of the same as Felix lays them out.
	Ours, Calico string
	// Least are the fewest rules that do as much for packets of these pods: no policy but this one could be beside it, no other
	// program could have a say, and nobody would be told of what is dropped.
	Least string
	// Dispatch are ours of pods without a policy, without what is in the raw table. Tree is as Felix does that: a
	// chain for each of the characters that names go on with. Both let each pod's chain accept everything.
	Dispatch, Tree string
	// Workloads are as Dispatch, but of workloadSize pods each have a policy of their own, which lets UDP in.
	Workloads string
}

// workloadSize is how many pods are of one workload.
const workloadSize = 5

// Layouts gives them, and makes the sets that they need. The policy allows UDP and TCP to one port, out for all pods,
// and in from pods with a label.
func (p *Path) Layouts(_ Nothing, l *Layouts) error {
	ours, err := p.compiler(p.policed)
	if err != nil {
		return err
	}
	var sets strings.Builder
	var set string
	for key := range ours.Sets() {
		set = key.Name
		fmt.Fprintf(&sets, "create %s hash:net\n", set)
		for m := range ours.Members(key) {
			fmt.Fprintf(&sets, "add %s %s\n", set, m.Prefix)
		}
	}
	cmd := exec.CommandContext(p.ctx, "ipset", "restore", "-exist")
	cmd.Stdin = strings.NewReader(sets.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make sets: %w: %s", err, out)
	}
	if l.Ours, err = render.Text(api.IPv4, ours.Chains()); err != nil {
		return err
	}
	p.groups = map[string]map[string]uint32{l.Ours: groupsOf(ours, p.ends)}
	for _, d := range []struct {
		text   *string
		police func(*compile.Compiler) error
	}{{&l.Dispatch, unpoliced}, {&l.Workloads, p.workloads}} {
		c, err := p.compiler(d.police)
		if err != nil {
			return err
		}
		text, err := render.Text(api.IPv4, c.Chains())
		if err != nil {
			return err
		}
		*d.text = text[strings.Index(text, "*filter"):]
		p.groups[*d.text] = groupsOf(c, p.ends)
	}
	l.Calico = p.calico(set)
	l.Least = p.least(set)
	l.Tree = p.tree()
	return nil
}

func (p *Path) least(set string) string {
	var b strings.Builder
	b.WriteString("*raw\n-A PREROUTING -i cali+ -m rpfilter --validmark --invert -j DROP\nCOMMIT\n" +
		"*filter\n:from - [0:0]\n:to - [0:0]\n-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n")
	for _, way := range []struct{ option, lead string }{{"-i", "-j from"}, {"-o", "-g to"}} {
		for _, e := range p.ends {
			fmt.Fprintf(&b, "-A FORWARD %s %s %s\n", way.option, e.name, way.lead)
		}
	}
	for _, proto := range []string{"udp", "tcp"} {
		fmt.Fprintf(&b, "-A from -p %[1]s -m %[1]s --dport %[2]d -j RETURN\n-A to -p %[1]s -m %[1]s --dport %[2]d -m set --match-set %[3]s src -j ACCEPT\n",
			proto, pathPort, set)
	}
	b.WriteString("-A from -j DROP\n-A to -j DROP\nCOMMIT\n")
	return b.String()
}

// groupsOf gives the link groups of pods' interfaces.
func groupsOf(c *compile.Compiler, ends []end) map[string]uint32 {
	all := map[string]uint32{}
	for _, e := range ends {
		all[e.name] = c.Group(e.name)
	}
	return all
}

// compiler gives our chains for all pods, with the policies that it is told of.
func (p *Path) compiler(police func(*compile.Compiler) error) (*compile.Compiler, error) {
	c := compile.New(compile.Options{Families: []api.Family{api.IPv4}, Groups: true})
	c.SetProfile(policy.ImpliedProfile("default"))
	if err := police(c); err != nil {
		return nil, err
	}
	for i, name := range p.names {
		it := policy.Item{
			Labels:  map[string]string{"client": "yes", "workload": strconv.Itoa(i / workloadSize)},
			Parents: []string{"kns.default"}, Prefixes: []netip.Prefix{netip.PrefixFrom(pathAddress(i), 32)},
		}
		c.SetPeer(name, it)
		c.SetLocal(name, compile.Local{Interface: name, Labels: it.Labels, Parents: it.Parents, Profiles: it.Parents})
	}
	c.Update()
	return c, nil
}

func unpoliced(*compile.Compiler) error { return nil }

// policed tells of one policy for all pods.
func (p *Path) policed(c *compile.Compiler) error {
	clients, err := selector.Parse("has(client)")
	if err != nil {
		return err
	}
	at := policy.Entity{Ports: []policy.PortRange{{First: pathPort, Last: pathPort}}}
	web := &policy.Policy{
		ID: policy.ID{Kind: policy.KindGlobal, Name: "web"}, Tier: policy.TierDefault, Order: 100,
		AppliesIngress: true, AppliesEgress: true,
	}
	for _, proto := range []policy.Protocol{policy.UDP, policy.TCP} {
		web.Ingress = append(web.Ingress, policy.Rule{
			Action: api.Allow, Protocol: proto, Source: policy.Entity{Selector: &clients}, Destination: at,
		})
		web.Egress = append(web.Egress, policy.Rule{Action: api.Allow, Protocol: proto, Destination: at})
	}
	c.SetPolicy(web)
	return nil
}

// workloads tells of a policy for the pods of each workload.
func (p *Path) workloads(c *compile.Compiler) error {
	for k := range (len(p.names) + workloadSize - 1) / workloadSize {
		own, err := selector.Parse(fmt.Sprintf("workload == '%d'", k))
		if err != nil {
			return err
		}
		c.SetPolicy(&policy.Policy{
			ID: policy.ID{Kind: policy.KindGlobal, Name: fmt.Sprint("workload-", k)}, Tier: policy.TierDefault, Order: 100,
			Selector: own, AppliesIngress: true, Ingress: []policy.Rule{{Action: api.Allow, Protocol: policy.UDP}},
		})
	}
	return nil
}
