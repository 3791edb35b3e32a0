// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"korat/api"
	"korat/policy"
)

// dump writes what an object becomes, with its faults at the end.
func dump(obj api.Object) string {
	switch o := obj.(type) {
	case *api.Tier:
		t := policy.TierOf(o)
		return fmt.Sprintf("tier %s, order %v, default %s\n", t.Name, order(t.Order), t.Default)
	case *api.Profile:
		p, err := policy.ProfileOf(o)
		return dumpProfile(p) + faults(err)
	case *api.WorkloadEndpoint, *api.HostEndpoint, *api.NetworkSet, *api.GlobalNetworkSet:
		item, err := policy.ItemOf(obj)
		return dumpItem(obj, item) + faults(err)
	}
	p, err := policy.Of(obj)
	if p == nil {
		return "nothing\n" + faults(err)
	}
	return dumpPolicy(p) + faults(err)
}

func faults(err error) string {
	if err == nil {
		return ""
	}
	var b strings.Builder
	for line := range strings.Lines(err.Error() + "\n") {
		b.WriteString("error: " + line)
	}
	return b.String()
}

func dumpPolicy(p *policy.Policy) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, tier %s, order %v", p.ID, p.Tier, order(p.Order))
	b.WriteString([]string{"", ", and forwarded", ", before DNAT", ", untracked"}[p.Stage])
	if p.Staged {
		b.WriteString(", staged")
	}
	fmt.Fprintf(&b, "\nfor %s\n", p.Selector)
	for _, d := range []api.PolicyType{api.Ingress, api.Egress} {
		if p.Applies(d) {
			fmt.Fprintf(&b, "%s:\n", strings.ToLower(string(d)))
		}
		dumpRules(&b, p.Rules(d))
	}
	return b.String()
}

func dumpProfile(p *policy.Profile) string {
	var b strings.Builder
	fmt.Fprintf(&b, "profile %s\n", p.Name)
	dumpLabels(&b, p.Labels)
	b.WriteString("ingress:\n")
	dumpRules(&b, p.Ingress)
	b.WriteString("egress:\n")
	dumpRules(&b, p.Egress)
	return b.String()
}

func dumpItem(obj api.Object, item policy.Item) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", obj.Key())
	if w, ok := obj.(*api.WorkloadEndpoint); ok {
		fmt.Fprintf(&b, "  profiles %s\n", strings.Join(policy.Profiles(w), " "))
	}
	dumpLabels(&b, item.Labels)
	list(&b, "  parents", item.Parents)
	list(&b, "  prefixes", item.Prefixes)
	for _, p := range item.Ports {
		fmt.Fprintf(&b, "  port %s %s %d\n", p.Name, p.Protocol, p.Port)
	}
	return b.String()
}

func dumpLabels(b *strings.Builder, labels map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		fmt.Fprintf(b, "  label %s = %q\n", key, labels[key])
	}
}

func list[T any](b *strings.Builder, name string, values []T) {
	if len(values) > 0 {
		fmt.Fprintf(b, "%s %s\n", name, strings.Trim(fmt.Sprint(values), "[]"))
	}
}

// dumpRules writes "0 Allow IPv4 TCP", with a line for all that each end must match.
func dumpRules(b *strings.Builder, rules []policy.Rule) {
	for i := range rules {
		r := &rules[i]
		fmt.Fprintf(b, "  %d %s", r.Index, r.Action)
		if r.Family != 0 {
			fmt.Fprintf(b, " %s", r.Family)
		}
		for _, p := range []struct {
			not      string
			protocol policy.Protocol
			icmp     *policy.ICMPType
		}{{"", r.Protocol, r.ICMP}, {"!", r.NotProtocol, r.NotICMP}} {
			if p.protocol != 0 {
				fmt.Fprintf(b, " %s%s", p.not, p.protocol)
			}
			if p.icmp != nil {
				fmt.Fprintf(b, " %stype %d", p.not, p.icmp.Type)
				if p.icmp.Code >= 0 {
					fmt.Fprintf(b, "/%d", p.icmp.Code)
				}
			}
		}
		if r.Name != "" {
			fmt.Fprintf(b, " (%s)", r.Name)
		}
		b.WriteString("\n")
		dumpEntity(b, "from", &r.Source)
		dumpEntity(b, "to", &r.Destination)
		for _, c := range r.Comments {
			fmt.Fprintf(b, "    # %s\n", c)
		}
	}
}

func dumpEntity(b *strings.Builder, end string, e *policy.Entity) {
	end = "    " + end
	list(b, end+" nets", e.Nets)
	list(b, end+" !nets", e.NotNets)
	if e.Selector != nil {
		fmt.Fprintf(b, "%s %s\n", end, e.Selector)
	}
	if e.NotSelector != nil {
		fmt.Fprintf(b, "%s !(%s)\n", end, e.NotSelector)
	}
	if e.Service != nil {
		fmt.Fprintf(b, "%s service %s/%s\n", end, e.Service.Namespace, e.Service.Name)
	}
	list(b, end+" ports", e.Ports)
	list(b, end+" named ports", e.NamedPorts)
	list(b, end+" !ports", e.NotPorts)
	list(b, end+" !named ports", e.NotNamedPorts)
}

func order(o float64) string {
	if math.IsInf(o, 1) {
		return "last"
	}
	return fmt.Sprint(o)
}
