// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"korat/api"
)

// Problems says what in the datastore, or between it and the CNI record, needs a human.
func (a *Allocator) Problems() []error {
	problems := slices.Clone(a.pools.problems)
	if a.reservedError != nil {
		problems = append(problems, a.reservedError)
	}
	problems = append(problems, a.hosts.problems(slices.Concat(a.enabled, a.disabled))...)
	for _, o := range a.blocks.own() {
		if o.broken != nil {
			problems = append(problems, fmt.Errorf("IPAMBlock/%s can't be used: %w", api.BlockName(o.prefix), o.broken))
		}
		if o.rival != nil {
			problems = append(problems, fmt.Errorf("IPAMBlock/%s has addresses of IPAMBlock/%s of node %q: no pod gets one of them: "+
				"remove the pods of one of the two, then delete its IPAMBlock and BlockAffinity", api.BlockName(o.prefix), o.rival.Name, owner(o.rival)))
		}
	}
	disputed := map[netip.Addr][]error{} // mostly none, which takes no sorting
	for addr, by := range a.holders.byAddr {
		if len(by) > 1 {
			disputed[addr] = append(disputed[addr], fmt.Errorf("address %s is in use by several handles: %s: remove all pods but one", addr, strings.Join(by, ", ")))
		}
		if err := a.contradiction(addr); err != nil {
			disputed[addr] = append(disputed[addr], fmt.Errorf("address %s is in use by %s, but %w", addr, a.holders.holder(addr), err))
		}
	}
	for _, addr := range slices.SortedFunc(maps.Keys(disputed), netip.Addr.Compare) {
		problems = append(problems, disputed[addr]...)
	}
	return problems
}

// contradiction says, after "but", why the datastore can't have an address that is in use as this node's.
func (a *Allocator) contradiction(addr netip.Addr) error {
	if o := a.blocks.containing(addr); o != nil && o.confirmed {
		if o.newest == nil || !foreignAt(o.newest, addr) {
			return nil
		}
		al, _ := o.newest.At(addr)
		return fmt.Errorf("the datastore says by %s on node %q: delete one of the two pods", al.Holder, al.Attrs["node"])
	}
	if known, err := a.disputed(addr); known {
		return err
	}
	_, err := a.missing(addr)
	return err
}

// missing gives the block to claim for an address in use that no confirmed block of this node has, as
// when the datastore was restored from an old backup. The error says why it can't be claimed.
func (a *Allocator) missing(addr netip.Addr) (*Need, error) {
	if o := a.blocks.containing(addr); !a.snap.InSync || o != nil && o.confirmed {
		return nil, nil
	}
	all := slices.Concat(a.enabled, a.disabled)
	i := slices.IndexFunc(all, func(p Pool) bool { return p.CIDR.Contains(addr) })
	if i < 0 {
		return nil, errors.New("in no IPPool: create one that has it, or delete the pod")
	}
	want := all[i].blockOf(addr)
	if obj, ok := a.snap.IPAMBlocks.Get(api.BlockName(want)); ok && !ownedBy(obj, a.node) {
		return nil, fmt.Errorf("its block %s belongs to node %q: delete the pod", want, owner(obj))
	}
	if others := rivals(a.snap.IPAMBlocks, want); len(others) > 0 {
		return nil, fmt.Errorf("its block %s can't be claimed, because IPAMBlock/%s of node %q overlaps it: delete the pod", want, others[0].Name, owner(others[0]))
	}
	return &Need{Pools: []Pool{all[i]}, Block: want}, nil
}
