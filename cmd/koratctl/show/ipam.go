// SPDX-License-Identifier: Apache-2.0

package show

import (
	"fmt"
	"io"
	"math/big"
	"net/netip"
	"strconv"
	"strings"

	"korat/api"
)

// Pools prints how full each pool is, and with blocks each block of it too.
func Pools(w io.Writer, snap api.Snapshot, blocks bool) error {
	rows := [][]string{{"POOL", "CIDR", "SIZE", "BLOCKS", "IN USE", "FREE"}}
	for _, p := range snap.IPPools.All() {
		rows = append(rows, poolRow(snap, p))
	}
	if err := grid(w, rows); err != nil || !blocks {
		return err
	}
	fmt.Fprintln(w)
	rows = [][]string{{"BLOCK", "POOL", "NODE", "STATE", "SIZE", "USED", "FREE"}}
	for _, b := range snap.IPAMBlocks.All() {
		n, size := used(b), len(b.Spec.Allocations)
		rows = append(rows, []string{
			b.Spec.CIDR, poolOf(snap, b), blockNode(b), blockState(snap, b), strconv.Itoa(size), share(n, size),
			strconv.Itoa(size - n),
		})
	}
	return grid(w, rows)
}

func poolRow(snap api.Snapshot, p *api.IPPool) []string {
	blocks, inUse := 0, 0
	for _, b := range snap.IPAMBlocks.All() {
		if poolOf(snap, b) == p.Name {
			blocks++
			inUse += used(b)
		}
	}
	row := []string{p.Name, p.Spec.CIDR, "?", strconv.Itoa(blocks), strconv.Itoa(inUse), "?"}
	prefix, err := netip.ParsePrefix(p.Spec.CIDR)
	if err != nil {
		return row
	}
	size := new(big.Int).Lsh(big.NewInt(1), uint(prefix.Addr().BitLen()-prefix.Bits()))
	row[2] = size.String()
	if size.IsInt64() {
		row[4] = share(inUse, int(size.Int64()))
	}
	row[5] = size.Sub(size, big.NewInt(int64(inUse))).String()
	return row
}

// share gives "25 (10%)"; what is in use at all is never shown as 0%.
func share(n, of int) string {
	switch percent := n * 100 / max(of, 1); {
	case n > 0 && percent == 0:
		return fmt.Sprintf("%d (<1%%)", n)
	default:
		return fmt.Sprintf("%d (%d%%)", n, percent)
	}
}

// Address tells everything known of one address.
func Address(w io.Writer, snap api.Snapshot, addr netip.Addr) error {
	_, err := fmt.Fprintln(w, describe(snap, addr))
	return err
}

func describe(snap api.Snapshot, addr netip.Addr) string {
	for _, b := range snap.IPAMBlocks.All() {
		prefix, err := netip.ParsePrefix(b.Spec.CIDR)
		if err != nil || !prefix.Contains(addr) {
			continue
		}
		where := fmt.Sprintf("block %s of node %s", b.Spec.CIDR, blockNode(b))
		holder, ok := holder(b, ordinal(prefix, addr))
		if !ok {
			return fmt.Sprintf("%s is free, in %s", addr, where)
		}
		return fmt.Sprintf("%s is in use, in %s\n%s", addr, where, holder)
	}
	for _, p := range snap.IPPools.All() {
		if prefix, err := netip.ParsePrefix(p.Spec.CIDR); err == nil && prefix.Contains(addr) {
			return fmt.Sprintf("%s is free, in no block yet of pool %s (%s)", addr, p.Name, p.Spec.CIDR)
		}
	}
	return fmt.Sprintf("%s is in no pool", addr)
}

// holder says who holds an ordinal, one attribute a line; ok is false when nobody does.
func holder(b *api.IPAMBlock, ordinal int) (text string, ok bool) {
	if ordinal >= len(b.Spec.Allocations) || b.Spec.Allocations[ordinal] == nil {
		return "", false
	}
	i := *b.Spec.Allocations[ordinal]
	if i < 0 || i >= len(b.Spec.Attributes) {
		return "  (the block does not say by whom)", true
	}
	a := b.Spec.Attributes[i]
	lines := []string{"  handle: " + a.HandleID}
	for _, key := range []string{"namespace", "pod", "node", "timestamp"} {
		if v := a.ActiveOwnerAttrs[key]; v != "" {
			lines = append(lines, "  "+key+": "+v)
		}
	}
	return strings.Join(lines, "\n"), true
}

// ordinal is the address's offset from the block's first.
func ordinal(block netip.Prefix, addr netip.Addr) int {
	first, this := new(big.Int).SetBytes(block.Masked().Addr().AsSlice()), new(big.Int).SetBytes(addr.AsSlice())
	return int(this.Sub(this, first).Int64())
}

func used(b *api.IPAMBlock) int {
	n := 0
	for _, a := range b.Spec.Allocations {
		if a != nil {
			n++
		}
	}
	return n
}

// blockNode gives the node of "host:<node>", or nothing.
func blockNode(b *api.IPAMBlock) string {
	if b.Spec.Affinity == nil {
		return ""
	}
	_, node, _ := strings.Cut(*b.Spec.Affinity, ":")
	return node
}

// blockState gives the state of the affinity that the block's node has to it.
func blockState(snap api.Snapshot, b *api.IPAMBlock) string {
	node := blockNode(b)
	for _, a := range snap.BlockAffinities.All() {
		if a.Spec.CIDR == b.Spec.CIDR && a.Spec.Node == node {
			return a.Spec.State
		}
	}
	return ""
}

// poolOf gives the name of the pool that holds the block, or nothing: pools can be deleted.
func poolOf(snap api.Snapshot, b *api.IPAMBlock) string {
	block, err := netip.ParsePrefix(b.Spec.CIDR)
	if err != nil {
		return ""
	}
	for _, p := range snap.IPPools.All() {
		pool, err := netip.ParsePrefix(p.Spec.CIDR)
		if err == nil && pool.Contains(block.Addr()) && pool.Bits() <= block.Bits() {
			return p.Name
		}
	}
	return ""
}
