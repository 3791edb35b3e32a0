// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"korat/api"
	"korat/api/store"
)

// overlapError: another block has addresses of the one that was to be claimed.
type overlapError struct {
	with *api.IPAMBlock
	// kept: the block is in use, so that a human has to decide.
	kept bool
}

func (e *overlapError) Error() string {
	return fmt.Sprintf("IPAMBlock/%s of node %q overlaps it", e.with.Name, owner(e.with))
}

// Is matches errTaken.
func (e *overlapError) Is(target error) bool { return target == errTaken }

// alone takes a new claim back if another block has addresses of its block. The Snapshot can't tell: a node
// whose copy of a pool is old makes blocks of another size. As everybody creates the block before
// looking, of two such nodes at least one sees the other.
func (c *claims) alone(ctx context.Context, aff *api.BlockAffinity, blk *api.IPAMBlock) error {
	p, err := netip.ParsePrefix(blk.Spec.CIDR)
	if err != nil {
		return fmt.Errorf("%s: spec.cidr: %w", blk.Key(), err)
	}
	var other *api.IPAMBlock
	err = each(ctx, c.store, api.KindIPAMBlock, func(obj *api.IPAMBlock) {
		if other == nil && obj.Name != blk.Name && overlaps(obj.Spec.CIDR, p) {
			other = obj
		}
	})
	if err != nil || other == nil {
		return err
	}
	inUse := slices.ContainsFunc(blk.Spec.Allocations, func(index *int) bool { return index != nil })
	if inUse {
		return &overlapError{other, true}
	}
	if err := c.retreat(ctx, aff, blk); err != nil {
		return err
	}
	return &overlapError{with: other}
}

// each looks at every object of a kind that the datastore has, and holds no more than a part of them at a time. Of other nodes'
// objects there may be no more than ranges, and whose they are.
func each[T api.Object](ctx context.Context, st Store, kind api.Kind, look func(T)) error {
	_, err := store.Each(ctx, st, kind, func(page []api.Object) {
		for _, obj := range page {
			if obj, ok := obj.(T); ok {
				look(obj)
			}
		}
	})
	return err
}

// open takes a new claim back if its pool is being deleted. The Snapshot can't tell: as the block is created before
// this look, and a pool is deleted after a look at all blocks, either this node sees that the pool goes, or whoever
// deletes it sees the block.
func (c *claims) open(ctx context.Context, aff *api.BlockAffinity, blk *api.IPAMBlock) error {
	p, err := netip.ParsePrefix(blk.Spec.CIDR)
	if err != nil {
		return fmt.Errorf("%s: spec.cidr: %w", blk.Key(), err)
	}
	if c.inUse(p) {
		return nil // no other node may get it
	}
	pool, known := c.poolOf(p)
	if known {
		fresh, err := get[*api.IPPool](ctx, c.store, api.Key{Kind: api.KindIPPool, Name: pool.Name})
		if err != nil {
			return err
		}
		if fresh != nil && fresh.DeletionTimestamp == nil && fresh.Spec.CIDR == pool.CIDR.String() {
			return nil
		}
	}
	if err := c.retreat(ctx, aff, blk); err != nil {
		return err
	}
	return errClosed
}

// retreat takes back what a claim has made. The affinity of a block that was ours before stays, and is
// reported.
func (c *claims) retreat(ctx context.Context, aff *api.BlockAffinity, blk *api.IPAMBlock) error {
	err := ignore(c.store.Delete(ctx, blk.Key(), blk.ResourceVersion), store.ErrNotFound)
	if err != nil || aff.Spec.State == api.AffinityConfirmed {
		return err
	}
	return c.drop(ctx, aff)
}

// drop gives up an affinity that came to nothing.
func (c *claims) drop(ctx context.Context, aff *api.BlockAffinity) error {
	err := c.store.Delete(ctx, aff.Key(), aff.ResourceVersion)
	if err == nil {
		c.log.Info("claim dropped", "block", aff.Spec.CIDR, "state", aff.Spec.State)
	}
	return ignore(err, store.ErrNotFound)
}

// read gives both objects of a block as they are now, nil for one that there is not.
func (c *claims) read(ctx context.Context, p netip.Prefix) (*api.BlockAffinity, *api.IPAMBlock, error) {
	aff, err := get[*api.BlockAffinity](ctx, c.store, api.Key{Kind: api.KindBlockAffinity, Name: api.AffinityName(c.node, p)})
	if err != nil {
		return nil, nil, err
	}
	blk, err := get[*api.IPAMBlock](ctx, c.store, api.Key{Kind: api.KindIPAMBlock, Name: api.BlockName(p)})
	return aff, blk, err
}

func get[T api.Object](ctx context.Context, st Store, key api.Key) (T, error) {
	var none T
	obj, err := st.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return none, nil
	}
	if err != nil {
		return none, err
	}
	have, ok := obj.(T)
	if !ok {
		return none, fmt.Errorf("%s is stored as a %T", key, obj)
	}
	return have, nil
}
