// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"korat/api"
	"korat/api/store"
	"korat/ipam/block"
)

// borrower writes this node's share of other nodes' blocks, each at most once in publishInterval unless requests
// wait.
type borrower struct {
	store Store
	node  string
	log   *slog.Logger
	// last is when a block's object was last written, by name.
	last map[string]time.Time
	// took is the number of the block with which addresses were last taken from it: until the Snapshot has come as
	// far, no more are.
	took map[string]uint64
}

func newBorrower(st Store, node string, log *slog.Logger) borrower {
	return borrower{store: st, node: node, log: log, last: map[string]time.Time{}, took: map[string]uint64{}}
}

// all writes what is due, and says when the next write will be.
func (b *borrower) all(ctx context.Context, w Wants, now time.Time) (next time.Duration, err error) {
	var errs []error
	for _, l := range w.Loans {
		name := api.BlockName(l.Block)
		if obj, ok := w.Snapshot.IPAMBlocks.Get(name); ok && obj.Spec.SequenceNumber < b.took[name] {
			l.Take = 0
		}
		if left := publishInterval - now.Sub(b.last[name]); l.Take == 0 && left > 0 && left <= publishInterval {
			next = sooner(next, left)
			continue
		}
		if err := b.one(ctx, name, l, w.Reserved); err != nil {
			errs = append(errs, fmt.Errorf("borrow of block %s: %w", l.Block, err))
			if errors.Is(err, store.ErrUnavailable) {
				break
			}
			continue
		}
		b.last[name] = now
	}
	return next, errors.Join(errs...)
}

// one writes a block by compare-and-swap on a fresh copy.
func (b *borrower) one(ctx context.Context, name string, l Loan, reserved func(netip.Addr) bool) error {
	for range casTries {
		have, err := b.lender(ctx, name, l.UID)
		if err != nil || have == nil {
			return err
		}
		next, got, err := l.apply(have, b.node, reserved)
		if err != nil || next == nil {
			return err
		}
		_, err = b.store.Update(ctx, next)
		if err == nil && len(got) > 0 {
			b.took[name] = next.Spec.SequenceNumber
			b.log.Info("addresses borrowed", "block", l.Block.String(), "node", owner(have), "addresses", fmt.Sprint(got))
		}
		if !errors.Is(err, store.ErrConflict) {
			return ignore(err, store.ErrNotFound)
		}
	}
	return store.ErrConflict
}

// lender gives a fresh copy of another node's block; nil if it is gone, or another one by now, or this node's.
func (b *borrower) lender(ctx context.Context, name, uid string) (*api.IPAMBlock, error) {
	obj, err := b.store.Get(ctx, api.Key{Kind: api.KindIPAMBlock, Name: name})
	if err != nil {
		return nil, ignore(err, store.ErrNotFound)
	}
	have, ok := obj.(*api.IPAMBlock)
	if !ok || string(have.UID) != uid || ownedBy(have, b.node) {
		return nil, nil
	}
	return have, nil
}

// apply gives the block with the node's share as it ought to be, nil if it is so, and which addresses were taken. It
// takes nothing that is not free, and nothing at all unless the owner lends; and it gives back no assignment but the
// very one that was meant.
func (l Loan) apply(have *api.IPAMBlock, node string, reserved func(netip.Addr) bool) (next *api.IPAMBlock, got []netip.Addr, err error) {
	b, err := block.From(have.Spec)
	if err != nil {
		return nil, nil, err
	}
	before := b.Sequence()
	if err := l.giveBack(b, node); err != nil {
		return nil, nil, err
	}
	open := termsOf(have).lending == lendingOpen
	for addr, h := range l.Pods {
		al, held := b.At(addr)
		switch {
		case held && al.Attrs["node"] == node && al.Handle != h.Handle:
			b.Entitle(addr, h)
		case !held && open:
			err = errors.Join(err, b.AssignAddr(addr, h))
		}
	}
	if open && l.Take > 0 {
		got = b.Assign(l.Take, l.Lease, reserved)
		slices.SortFunc(got, netip.Addr.Compare)
	}
	if err != nil || b.Sequence() == before {
		return nil, nil, err
	}
	next = have.DeepCopy()
	next.Spec = b.Spec()
	return next, got, nil
}

// giveBack releases those of the node's assignments that go back. One that is stale has been given back already.
func (l Loan) giveBack(b *block.Block, node string) error {
	for addr, r := range l.Back {
		if al, ok := b.At(addr); !ok || al.Attrs["node"] != node {
			continue
		}
		if err := ignore(b.Release(addr, r.Sequence, r.At), block.ErrStale); err != nil {
			return err
		}
	}
	return nil
}
