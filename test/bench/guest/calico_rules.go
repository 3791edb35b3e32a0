// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"fmt"
	"maps"
	"os/exec"
	"strings"

	"korat/felix/kernel"
)

// Calico has Felix's chains of an input in the packet filter, and changes them as Felix does: by an iptables-restore that it
// starts for each change.
type Calico struct {
	ctx   context.Context
	input Input
	// endpoints is how many there are, variant numbers the changes of policies.
	endpoints, variant int

	backend kernel.Backend
	have    laid
}

// Begin writes the sets and chains, and says how many rules iptables-save tells then.
func (c *Calico) Begin(cfg FilterConfig, rules *int) error {
	c.input, c.backend, c.endpoints = cfg.Input, cfg.Backend, cfg.Endpoints
	if err := c.sets(); err != nil {
		return err
	}
	var none Cost
	if err := c.restore(fixed(), &none); err != nil {
		return err
	}
	if err := c.write(c.input.felix(c.endpoints), &none); err != nil {
		return err
	}
	text, err := exec.CommandContext(c.ctx, "iptables-"+strings.ToLower(string(c.backend))+"-save").Output()
	if err != nil {
		return fmt.Errorf("count rules: %w", err)
	}
	*rules = strings.Count(string(text), "\n-A ")
	return nil
}

// sets makes those that rules look into. What they have costs a change of the rules nothing.
func (c *Calico) sets() error {
	var text strings.Builder
	fmt.Fprintln(&text, "create cali40this-host hash:ip")
	for _, name := range []string{"cali40network-ip-pools", "cali40masq-ipam-pools", "cali40dscp-src-net"} {
		fmt.Fprintf(&text, "create %s hash:net\n", name)
	}
	for role := range 7 {
		fmt.Fprintf(&text, "create %s hash:net\n", felixSet(role))
	}
	for i := range c.endpoints {
		fmt.Fprintf(&text, "add %s %s\n", felixSet(i%7), inputAddress(i))
	}
	cmd := exec.CommandContext(c.ctx, "ipset", "restore")
	cmd.Stdin = strings.NewReader(text.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("write sets: %w: %s", err, out)
	}
	return nil
}

// Endpoint adds one: its two chains, and what leads to them.
func (c *Calico) Endpoint(_ Nothing, cost *Cost) error {
	var f felix
	f.workload(c.input, c.endpoints)
	c.endpoints++
	f.tree(c.endpoints)
	return c.write(f.chains(), cost)
}

// Policy changes one in four of its rules.
func (c *Calico) Policy(_ Nothing, cost *Cost) error {
	c.variant++
	var f felix
	f.policy(c.input, c.variant%c.input.Policies, c.variant)
	return c.write(f.chains(), cost)
}

// write makes chains.
func (c *Calico) write(want laid, cost *Cost) error {
	if err := c.restore(c.have.change(want, c.backend), cost); err != nil {
		return err
	}
	if c.have == nil {
		c.have = laid{}
	}
	maps.Copy(c.have, want)
	return nil
}

func (c *Calico) restore(text string, cost *Cost) error {
	return (&Fork{c.ctx}).Restore(ForkConfig{Backend: c.backend, Text: text}, cost)
}
