// SPDX-License-Identifier: Apache-2.0

// Package release carries out what ipam/audit plans: it ends assignments, and removes what nodes that do not exist
// have left behind. Each write is a compare-and-swap on what was read a moment before.
package release

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"korat/api"
	"korat/api/store"
	"korat/ipam/audit"
	"korat/ipam/block"
)

// tries bounds how often a write is repeated because somebody else wrote meanwhile.
const tries = 5

// Store is what a release needs of the datastore.
type Store interface {
	store.Reader
	store.Writer
}

// carrier carries out one plan.
type carrier struct {
	st  Store
	now time.Time
	// failed are the handles of which something could not be released, and why.
	failed map[string]error
	done   []string
}

// Carry carries the plan out, and says what it did, with an error too if something failed. Released addresses cool
// down from now on, so that an agent that still knows a pod with one can put it back before it is given again.
func Carry(ctx context.Context, st Store, plan audit.Plan, now time.Time) (done []string, err error) {
	c := carrier{st: st, now: now, failed: map[string]error{}}
	blocks := byBlock(plan.Releases)
	names := slices.Sorted(maps.Keys(blocks))
	for _, name := range names { // of a handle, all addresses or none: look before the first write
		if _, err := c.look(ctx, name, blocks[name]); err != nil {
			return nil, err
		}
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, c.release(ctx, name, blocks[name]))
	}
	for _, ep := range plan.Endpoints {
		if !c.keeps(ep, plan.Releases) {
			errs = append(errs, c.remove(ctx, ep))
		}
	}
	for _, claim := range plan.Claims {
		errs = append(errs, c.giveUp(ctx, claim))
	}
	for _, handle := range slices.Sorted(maps.Keys(c.failed)) {
		errs = append(errs, c.failed[handle])
	}
	return c.done, errors.Join(errs...)
}

func byBlock(all []audit.Allocation) map[string][]audit.Allocation {
	blocks := map[string][]audit.Allocation{}
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.Block); err == nil {
			blocks[api.BlockName(p)] = append(blocks[api.BlockName(p)], a)
		}
	}
	return blocks
}

// look reads a block and gives what it becomes, or nil if nothing of it is released. Handles that are no longer as
// planned are marked as failed.
func (c *carrier) look(ctx context.Context, name string, all []audit.Allocation) (*api.IPAMBlock, error) {
	obj, err := c.st.Get(ctx, api.Key{Kind: api.KindIPAMBlock, Name: name})
	if err != nil {
		return nil, err
	}
	have, ok := obj.(*api.IPAMBlock)
	if !ok {
		return nil, fmt.Errorf("%s is stored as a %T", obj.Key(), obj)
	}
	for _, a := range all {
		if _, err := released(have.Spec, a, c.now); err != nil {
			c.fail(a, err)
		}
	}
	next := have.DeepCopy()
	for _, a := range all {
		if c.failed[a.Handle] != nil {
			continue
		}
		if next.Spec, err = released(next.Spec, a, c.now); err != nil {
			return nil, err // cannot be: each one alone could be released
		}
	}
	if next.Spec.SequenceNumber == have.Spec.SequenceNumber {
		return nil, nil
	}
	return next, nil
}

// released gives what a block becomes when an assignment in it ends. A lease that is to be released is one of a node
// that does not exist, so that it is nobody's to give back.
func released(s api.IPAMBlockSpec, a audit.Allocation, now time.Time) (api.IPAMBlockSpec, error) {
	if a.Use != audit.Leased {
		return block.Release(s, a.Address, a.Sequence, now)
	}
	b, err := block.From(s)
	if err != nil {
		return s, err
	}
	if err := b.Release(a.Address, a.Sequence, now); err != nil {
		return s, err
	}
	return b.Spec(), nil
}

func (c *carrier) fail(a audit.Allocation, err error) {
	if c.failed[a.Handle] == nil {
		c.failed[a.Handle] = fmt.Errorf("handle %q is left as it is: %w", a.Handle, err)
	}
}

// keeps says whether an address of an endpoint could not be released.
func (c *carrier) keeps(ep *api.WorkloadEndpoint, all []audit.Allocation) bool {
	return slices.ContainsFunc(all, func(a audit.Allocation) bool {
		own := netip.PrefixFrom(a.Address, a.Address.BitLen()).String()
		return c.failed[a.Handle] != nil && slices.Contains(ep.Spec.IPNetworks, own)
	})
}

// release writes one block.
func (c *carrier) release(ctx context.Context, name string, all []audit.Allocation) error {
	for range tries {
		next, err := c.look(ctx, name, all)
		if err != nil || next == nil {
			return err
		}
		_, err = c.st.Update(ctx, next)
		if err == nil {
			for _, a := range all {
				if c.failed[a.Handle] == nil {
					c.say("%s released: it was held by %s", a.Address, a.Holder())
				}
			}
			return nil
		}
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("IPAMBlock/%s: was changed by others %d times in a row: try again", name, tries)
}

func (c *carrier) say(format string, args ...any) {
	c.done = append(c.done, fmt.Sprintf(format, args...))
}

// remove deletes an object as it was when the plan was made.
func (c *carrier) remove(ctx context.Context, obj api.Object) error {
	err := c.st.Delete(ctx, obj.Key(), obj.GetResourceVersion())
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err == nil {
		c.say("%s deleted", obj.Key())
	}
	return err
}

// giveUp removes a block and its affinity, in the order that a release of its own node has: affinity pending
// deletion, block deleted, affinity deleted. A node that comes back meanwhile neither uses nor claims the block.
func (c *carrier) giveUp(ctx context.Context, claim audit.Claim) error {
	if _, err := c.st.Get(ctx, api.Key{Kind: api.KindNode, Name: claim.Node}); !errors.Is(err, store.ErrNotFound) && claim.Node != "" {
		if err == nil {
			err = fmt.Errorf("block %s: node %s exists again: it keeps it", claim.Range, claim.Node)
		}
		return err
	}
	blk, err := c.vacant(ctx, claim)
	if err != nil {
		return err
	}
	aff := claim.Affinity
	if aff != nil && aff.Spec.State != api.AffinityPendingDeletion {
		next := aff.DeepCopy()
		next.Spec.State = api.AffinityPendingDeletion
		obj, err := c.st.Update(ctx, next)
		if err != nil {
			return err
		}
		aff, _ = obj.(*api.BlockAffinity)
	}
	if blk != nil {
		if err := c.remove(ctx, blk); err != nil {
			return err
		}
	}
	if aff == nil {
		return nil
	}
	return c.remove(ctx, aff)
}

// vacant gives a claim's block as it is now, or nil if it is gone. One that holds something is an error.
func (c *carrier) vacant(ctx context.Context, claim audit.Claim) (*api.IPAMBlock, error) {
	if claim.Block == nil {
		return nil, nil
	}
	obj, err := c.st.Get(ctx, claim.Block.Key())
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	have, ok := obj.(*api.IPAMBlock)
	if !ok || have.UID != claim.Block.UID {
		return nil, fmt.Errorf("%s: was made anew meanwhile: check again", obj.Key())
	}
	if left := inUse(have); len(left) > 0 {
		return nil, fmt.Errorf("%s is left as it is: it still holds %s", obj.Key(), strings.Join(left, ", "))
	}
	return have, nil
}

// inUse gives the addresses that a block holds for pods.
func inUse(obj *api.IPAMBlock) []string {
	var left []string
	for _, a := range audit.Read(api.Snapshot{InSync: true}.With(obj)).Allocations() {
		if a.Use == audit.InUse {
			left = append(left, a.Address.String())
		}
	}
	return left
}
