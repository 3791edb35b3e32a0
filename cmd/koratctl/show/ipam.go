// SPDX-License-Identifier: Apache-2.0

package show

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"korat/api"
	"korat/ipam/audit"
)

// Usage prints how full each pool is, and with blocks each block of it too.
func Usage(w io.Writer, pools []audit.PoolUsage, blocks bool) error {
	rows := [][]string{append([]string{"POOL", "CIDR", "STATE", "BLOCKS"}, usageTitles()...)}
	for _, p := range pools {
		name := p.Name
		if name == "" {
			name = "(none)"
		}
		rows = append(rows, append([]string{name, p.CIDR, p.State, strconv.Itoa(p.BlockCount)}, usageCells(p.Usage)...))
	}
	if err := grid(w, rows); err != nil || !blocks {
		return err
	}
	fmt.Fprintln(w)
	rows = [][]string{append([]string{"BLOCK", "POOL", "NODE", "STATE"}, usageTitles()...)}
	for _, p := range pools {
		for _, b := range p.Blocks {
			rows = append(rows, append([]string{b.CIDR, p.Name, b.Node, b.State}, usageCells(b.Usage)...))
		}
	}
	return gridOr(w, rows, "no blocks")
}

func usageTitles() []string {
	return []string{"IPS TOTAL", "IPS IN USE", "IPS FREE", "RESERVED", "COOLING", "LEASED", "BORROWED"}
}

func usageCells(u audit.Usage) []string {
	return []string{
		amount(u.Total), share(float64(u.InUse), u.Total), share(u.Free, u.Total), amount(u.Reserved),
		strconv.Itoa(u.Cooling), strconv.Itoa(u.Leased), strconv.Itoa(u.Borrowed),
	}
}

// amount gives a count in full up to a million million, and beyond that as 1.2089e+24.
func amount(n float64) string {
	if n < 1e12 {
		return strconv.FormatFloat(n, 'f', 0, 64)
	}
	return strconv.FormatFloat(n, 'e', 4, 64)
}

// share gives "25 (10%)". What is there at all is never shown as 0%, nor what is not all as 100%.
func share(n, of float64) string {
	percent := math.Floor(n * 100 / max(of, 1))
	switch {
	case n > 0 && percent == 0:
		return amount(n) + " (<1%)"
	default:
		return fmt.Sprintf("%s (%.0f%%)", amount(n), percent)
	}
}

// Borrowed prints the addresses that nodes have from other nodes' blocks.
func Borrowed(w io.Writer, all []audit.Allocation) error {
	rows := [][]string{{"IP", "BORROWING NODE", "BLOCK", "BLOCK OWNER", "TYPE", "ALLOCATED TO"}}
	for _, a := range all {
		rows = append(rows, []string{a.Address.String(), a.Node, a.Block, a.Owner, "workload", workload(a)})
	}
	return gridOr(w, rows, "no address is borrowed")
}

func workload(a audit.Allocation) string {
	if a.Pod == "" {
		return a.Handle
	}
	return a.Namespace + "/" + a.Pod
}

// Address prints everything known of one address.
func Address(w io.Writer, a audit.Address) error {
	rows := [][]string{{a.Address.String(), fate(a)}}
	add := func(what, value string) {
		if value != "" {
			rows = append(rows, []string{"  " + what, value})
		}
	}
	for _, x := range a.Allocations {
		add("handle", x.Handle)
		add("pod", strings.Trim(x.Namespace+"/"+x.Pod, "/"))
		add("node", x.Node)
		add("since", x.Since)
		if len(a.Allocations) > 1 {
			add("in block", x.Block)
		}
	}
	for _, ep := range a.Endpoints {
		add("endpoint", ep)
	}
	if a.Block != "" {
		add("block", strings.Join(nonEmpty(a.Block, prefixed("of node ", a.BlockNode), prefixed("affinity ", a.State)), ", "))
	}
	if a.Pool != "" {
		add("pool", fmt.Sprintf("%s (%s), %s", a.Pool, a.PoolCIDR, a.PoolState))
	}
	add("reserved", prefixed("by the IPReservation of ", a.Reserved))
	return grid(w, rows)
}

// fate says what an address is, and why it is free if it is.
func fate(a audit.Address) string {
	switch {
	case len(a.Allocations) > 1:
		return "is held in two blocks"
	case len(a.Allocations) == 1 && a.Allocations[0].Use == audit.InUse:
		if a.Allocations[0].Borrowed() {
			return fmt.Sprintf("is in use, borrowed by node %s", a.Allocations[0].Node)
		}
		return "is in use"
	case len(a.Allocations) == 1 && a.Allocations[0].Use == audit.Leased:
		return fmt.Sprintf("is leased to node %s, for its pods to come", a.Allocations[0].Node)
	case len(a.Allocations) == 1:
		return "is cooling down: it was released a moment ago, and is nobody's"
	case a.Pool == "" && a.Block == "":
		return "is in no pool"
	case a.Block == "":
		return "is free: no node has claimed its block yet"
	case a.Reserved != "":
		return "is free, and given only to who asks for it by name"
	}
	return "is free, in a block"
}

func prefixed(prefix, value string) string {
	if value == "" {
		return ""
	}
	return prefix + value
}

func nonEmpty(all ...string) []string {
	var some []string
	for _, s := range all {
		if s != "" {
			some = append(some, s)
		}
	}
	return some
}

// Configuration prints the settings that hold for all nodes.
func Configuration(w io.Writer, c *api.IPAMConfiguration) error {
	rows := [][]string{{"SETTING", "VALUE"}}
	for _, s := range settings(c) {
		rows = append(rows, []string{s.name, s.value})
	}
	return grid(w, rows)
}

// Reconfiguration prints the settings before and after a change.
func Reconfiguration(w io.Writer, before, after *api.IPAMConfiguration) error {
	rows := [][]string{{"SETTING", "BEFORE", "AFTER"}}
	was := settings(before)
	for i, s := range settings(after) {
		rows = append(rows, []string{s.name, was[i].value, s.value})
	}
	return grid(w, rows)
}

type setting struct{ name, value string }

func settings(c *api.IPAMConfiguration) []setting {
	blocks := strconv.Itoa(c.Spec.MaxBlocksPerHost)
	if c.Spec.MaxBlocksPerHost == 0 {
		blocks = "0 (no limit)"
	}
	return []setting{
		{"strictAffinity", boolean(c.Spec.StrictAffinity)},
		{"autoAllocateBlocks", strconv.FormatBool(c.Spec.AutoAllocateBlocks == nil || *c.Spec.AutoAllocateBlocks)},
		{"maxBlocksPerHost", blocks},
		{"ipCooldownSeconds", integer(c.Spec.IPCooldownSeconds)},
	}
}

func integer(n *int) string {
	if n == nil {
		return ""
	}
	return strconv.Itoa(*n)
}
