// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"korat/felix/endpoint"
	"korat/test/lab"
)

// roles are the values of the label role, which pods have in turn.
var roles = [...]string{"server", "client", "other"}

// policies are of those roles: servers have a set of clients, clients one of servers and one of many networks. What
// PORT stands for changes with each round. Everything that pods of an outage send to each other stays allowed.
const policies = `apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: server}
spec:
  selector: role == 'server'
  types: [Ingress]
  ingress:
  - {action: Allow, protocol: TCP, source: {selector: role == 'client'}, destination: {ports: [PORT]}}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: client}
spec:
  order: 10
  selector: role == 'client'
  types: [Egress]
  egress:
  - {action: Allow, destination: {selector: role == 'server'}}
  - {action: Deny, destination: {nets: [203.0.113.0/24, 198.51.100.0/24, 192.0.2.0/24]}}
  - {action: Deny, destination: {nets: ["2001:db8::/32"]}}
`

// setPolicies gives the datastore the policies of a round, and tries again while it is away.
func (s *Site) setPolicies(ctx context.Context, round int) error {
	text := strings.Replace(policies, "PORT", fmt.Sprint(8000+round), 1)
	var last error // not that of a program which the end of the wait has killed
	err := lab.Until(ctx, "policies are set", func(ctx context.Context) error {
		cmd := s.Hosts()[0].Command(ctx, "koratctl", "apply", "-f", "-")
		cmd.Stdin = strings.NewReader(text)
		out, err := cmd.CombinedOutput()
		if err != nil && ctx.Err() == nil {
			last = fmt.Errorf("apply policies: %w: %s", err, out)
		}
		return err
	})
	if err != nil {
		return errors.Join(err, last)
	}
	return nil
}

// labelled gives the network configuration with a pod's role.
func labelled(network, role string) string {
	return strings.Replace(network, "{", fmt.Sprintf(`{"args":{"cni":{"labels":[{"key":"role","value":%q}]}},`, role), 1)
}

// inFilter finds rules about pods' interfaces, chains of policies and endpoints, and sets with members: no pod, nothing of
// them.
func inFilter(ctx context.Context, left Remains, h *lab.Host) error {
	rules, err := filterRules(ctx, h)
	if err != nil {
		return err
	}
	for _, line := range rules {
		if podDevice(line) != "" || strings.Contains(line, "-m devgroup") || strings.HasPrefix(line, ":cali-") && slices.ContainsFunc(ofPods(), func(prefix string) bool { return strings.HasPrefix(line, ":"+prefix) }) {
			left.add("chains", h, line)
		}
	}
	sets, err := h.Exec(ctx, "ipset", "save")
	for line := range strings.Lines(sets) {
		if strings.Contains(line, " cali") {
			left.add("sets", h, strings.TrimSpace(line))
		}
	}
	return err
}

// ofPods begin the names of chains that are of endpoints and policies alone.
func ofPods() []string {
	return []string{"cali-tw-", "cali-fw-", "cali-pi-", "cali-po-", "cali-pri-", "cali-pro-", "cali-probe"}
}

// filterRules are the lines of both families.
func filterRules(ctx context.Context, h *lab.Host) ([]string, error) {
	var all []string
	for _, program := range []string{"iptables-nft-save", "ip6tables-nft-save"} {
		out, err := h.Exec(ctx, program)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(out) {
			all = append(all, strings.TrimSpace(line))
		}
	}
	return all, nil
}

// podDevice is the pod's interface that a rule is about; empty if it is about none.
func podDevice(rule string) string {
	words := strings.Fields(rule)
	for i, word := range words[:max(0, len(words)-1)] {
		if device := words[i+1]; (word == "-i" || word == "-o") && strings.HasPrefix(device, endpoint.InterfacePrefix) && !strings.HasSuffix(device, "+") {
			return device
		}
	}
	return ""
}

// linkGroup is the link group that a line of ip's tells of an interface.
func linkGroup(line string) uint64 {
	_, rest, _ := strings.Cut(line, " group ")
	name, _, _ := strings.Cut(rest, " ")
	group, err := strconv.ParseUint(name, 10, 32)
	if err != nil {
		return 0 // "default"
	}
	return group
}

// leads says whether a rule leads packets of an interface to chains of its endpoint, by its name or its link group.
func leads(rule, device string, group uint64) bool {
	words := strings.Fields(rule)
	to, mine := "", podDevice(rule) == device
	for i, word := range words[:max(0, len(words)-1)] {
		switch word {
		case "-g":
			to = words[i+1]
		case "--src-group", "--dst-group":
			value, mask, _ := strings.Cut(words[i+1], "/")
			v, errV := strconv.ParseUint(value, 0, 32)
			m, errM := strconv.ParseUint(mask, 0, 32)
			mine = errV == nil && errM == nil && group != 0 && group&m == v
		}
	}
	return mine && (strings.HasPrefix(to, "cali-fw-") || strings.HasPrefix(to, "cali-tw-"))
}

// policed holds that packets from and to each pod are led to chains of its own, in both families.
func (r *Runtime) policed(ctx context.Context) error {
	links, err := r.Host.Exec(ctx, "ip", "-d", "-o", "link", "show", "type", "veth")
	if err != nil {
		return err
	}
	rules, err := filterRules(ctx, r.Host)
	if err != nil {
		return err
	}
	pods := 0
	for line := range strings.Lines(links) {
		device, _, _ := strings.Cut(strings.Fields(line)[1], "@")
		if !strings.HasPrefix(device, endpoint.InterfacePrefix) {
			continue
		}
		led := 0
		for _, rule := range rules {
			if leads(rule, device, linkGroup(line)) {
				led++
			}
		}
		if pods++; led < 4 { // from and to, of each family
			return fmt.Errorf("%s: %d rules lead from or to %s to chains of its own: %s", r.Host.Name, led, device, line)
		}
	}
	attached := 0
	for _, p := range r.pods {
		if len(p.addrs) > 0 {
			attached++
		}
	}
	if pods != attached {
		return fmt.Errorf("%s: %d pods have an interface, of %d that are attached", r.Host.Name, pods, attached)
	}
	return nil
}
