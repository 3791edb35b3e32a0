// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"maps"
	"net/netip"
	"slices"

	"korat/ipam/block"
)

// holding is what one handle holds.
type holding struct {
	attrs map[string]string
	addrs []netip.Addr
}

// holders is who holds what by this node's own knowledge, which no Snapshot changes.
type holders struct {
	byHandle map[string]*holding
	// byAddr has more than one handle only if the CNI record contradicts itself.
	byAddr map[netip.Addr][]string
	// gone are handles released while some block was not known: should one list them, it is
	// outdated.
	gone map[string]bool
}

func (h *holders) add(handle string, attrs map[string]string, addrs []netip.Addr) {
	delete(h.gone, handle)
	have, ok := h.byHandle[handle]
	if !ok {
		have = &holding{attrs: maps.Clone(attrs)}
		h.byHandle[handle] = have
	}
	for _, addr := range addrs {
		if !slices.Contains(have.addrs, addr) {
			have.addrs = append(have.addrs, addr)
			h.byAddr[addr] = append(h.byAddr[addr], handle)
		}
	}
}

// remove forgets the handle and gives the addresses that nobody holds any more.
func (h *holders) remove(handle string) []netip.Addr {
	have, ok := h.byHandle[handle]
	if !ok {
		return nil
	}
	delete(h.byHandle, handle)
	var freed []netip.Addr
	for _, addr := range have.addrs {
		rest := slices.DeleteFunc(h.byAddr[addr], func(x string) bool { return x == handle })
		if len(rest) > 0 {
			h.byAddr[addr] = rest
			continue
		}
		delete(h.byAddr, addr)
		freed = append(freed, addr)
	}
	return freed
}

func (h *holders) has(addr netip.Addr) bool { return len(h.byAddr[addr]) > 0 }

// holder gives who holds the address: the first one if there are several.
func (h *holders) holder(addr netip.Addr) block.Holder {
	handle := h.byAddr[addr][0]
	return block.Holder{Handle: handle, Attrs: h.byHandle[handle].attrs}
}
