// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"korat/api"
	"korat/api/store"
	"korat/ipam/block"
)

// idleTime is how long nothing of a block must have been in use before it is given back.
const idleTime = 5 * time.Minute

// retryTime is the pause before another try with a block of which the datastore has something in use.
const retryTime = 10 * time.Second

// returns gives back the blocks that this node does not need. Each goes through these states:
//
//	idle     the Allocator has nothing in use there and could do without it
//	leaving  it has been so for long: the Allocator is asked to assign nothing more of it
//	closed   the Allocator does not: the affinity becomes pendingDeletion, the block is deleted if it is
//	         still empty, and the affinity is deleted
//
// A crash after the first of these writes is healed by doing the rest, or by confirming the affinity again if
// something of the block has come into use; see claims.release.
type returns struct {
	// after is how long a block has to be idle.
	after time.Duration
	// since is when a block was first seen idle; retry is when to try again with one that something else
	// kept.
	since, retry map[netip.Prefix]time.Time
	// leaving has true for a block that the datastore may know to be on its way: only a Snapshot that has
	// it no more ends that.
	leaving map[netip.Prefix]bool
}

func newReturns() returns {
	return returns{
		after: idleTime, since: map[netip.Prefix]time.Time{}, retry: map[netip.Prefix]time.Time{}, leaving: map[netip.Prefix]bool{},
	}
}

// see takes in what is idle now, and says when to look again.
func (r *returns) see(w Wants, now time.Time) (due time.Duration) {
	idle := map[netip.Prefix]bool{}
	for _, i := range w.Idle {
		idle[i.Block] = true
		first, known := r.since[i.Block]
		if !known {
			first = now
			r.since[i.Block] = now
		}
		left := r.retry[i.Block].Sub(now)
		if !i.Useless {
			left = max(left, r.after-now.Sub(first))
		}
		if left > 0 {
			due = sooner(due, left)
		} else if !r.leaving[i.Block] {
			r.leaving[i.Block] = false
		}
	}
	maps.DeleteFunc(r.since, func(p netip.Prefix, _ time.Time) bool { return !idle[p] })
	maps.DeleteFunc(r.retry, func(p netip.Prefix, _ time.Time) bool { return !idle[p] })
	maps.DeleteFunc(r.leaving, func(p netip.Prefix, begun bool) bool {
		return !idle[p] && (!begun || !slices.Contains(w.Closed, p))
	})
	return due
}

// sooner gives the earlier of two times to wait, of which zero is never.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// list gives the blocks to close, in order.
func (r *returns) list() []netip.Prefix {
	return slices.SortedFunc(maps.Keys(r.leaving), netip.Prefix.Compare)
}

// without leaves out the needs for blocks that are being given back: they are claimed again after that.
func (r *returns) without(needs []Need) []Need {
	return slices.DeleteFunc(slices.Clone(needs), func(n Need) bool {
		_, leaving := r.leaving[n.Block]
		return leaving
	})
}

// carryOut gives back the blocks that the Allocator has closed.
func (r *returns) carryOut(ctx context.Context, c *claims, closed []netip.Prefix, now time.Time) error {
	var errs []error
	for _, p := range closed {
		if _, leaving := r.leaving[p]; !leaving {
			continue
		}
		outcome, err := c.release(ctx, p)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("give back block %s: %w", p, err))
			r.leaving[p] = r.leaving[p] || outcome != untouched
		case outcome == kept:
			delete(r.leaving, p)
			r.retry[p] = now.Add(retryTime)
		default:
			r.leaving[p] = true
		}
		if errors.Is(err, store.ErrUnavailable) {
			break
		}
	}
	return errors.Join(errs...)
}

// outcome is what became of a release.
type outcome uint8

const (
	// untouched: nothing was written.
	untouched outcome = iota
	// kept: the block is this node's as before, since something is in use there.
	kept
	// released: whatever was there of the claim is gone, or some of it if there is an error too.
	released
)

// release gives up this node's claim on a block, from wherever an earlier attempt left off, if nobody uses the block.
// Each write is a compare-and-swap on what was read before, so that an address which another node borrows
// meanwhile keeps the block.
func (c *claims) release(ctx context.Context, p netip.Prefix) (outcome, error) {
	written := untouched
	for range casTries {
		now, err := c.releaseOnce(ctx, p)
		if err == nil {
			return now, nil
		}
		written = max(written, now)
		if !errors.Is(err, store.ErrConflict) {
			return written, err
		}
	}
	return written, store.ErrConflict
}

func (c *claims) releaseOnce(ctx context.Context, p netip.Prefix) (outcome, error) {
	aff, blk, err := c.read(ctx, p)
	if err != nil || aff == nil || aff.Spec.Node != c.node || aff.Spec.State == api.AffinityPending {
		return untouched, err
	}
	ours := blk != nil && ownedBy(blk, c.node)
	if ours && (c.busy(blk) || c.inUse(p)) {
		return kept, c.setState(ctx, &aff, api.AffinityConfirmed)
	}
	if err := c.setState(ctx, &aff, api.AffinityPendingDeletion); err != nil {
		return released, err
	}
	if ours {
		if err := ignore(c.store.Delete(ctx, blk.Key(), blk.ResourceVersion), store.ErrNotFound); err != nil {
			return released, err
		}
	}
	if err := ignore(c.store.Delete(ctx, aff.Key(), aff.ResourceVersion), store.ErrNotFound); err != nil {
		return released, err
	}
	c.log.Info("block given back", "block", p.String())
	return released, nil
}

// setState brings an affinity into a state, and gives it as it is stored then.
func (c *claims) setState(ctx context.Context, aff **api.BlockAffinity, state string) error {
	if (*aff).Spec.State == state {
		return nil
	}
	next := (*aff).DeepCopy()
	next.Spec.State = state
	obj, err := c.store.Update(ctx, next)
	if err != nil {
		return ignore(err, store.ErrNotFound)
	}
	if have, ok := obj.(*api.BlockAffinity); ok {
		*aff = have
	}
	return nil
}

// busy says whether the stored block has an address that is in use or cools down, or can't be read. What this node
// has leased for pods to come is free for it to give up.
func (c *claims) busy(blk *api.IPAMBlock) bool {
	b, err := block.From(blk.Spec)
	if err != nil {
		return true
	}
	for _, al := range b.All() {
		if !al.Leased() || al.Attrs["node"] != c.node {
			return true
		}
	}
	return false
}

// inUse says whether this node's pods have an address of the block.
func (c *claims) inUse(p netip.Prefix) bool { return slices.ContainsFunc(c.used, p.Contains) }
