// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"korat/api"
	"korat/api/store"
	"korat/ipam/block"
)

// casTries bounds the attempts of one compare-and-swap within a pass.
const casTries = 4

// publisher writes the contents of own blocks, each at most once in publishInterval.
type publisher struct {
	store Store
	node  string
	// last is when a block's object was last read or written, by name.
	last map[string]time.Time
}

// all publishes the changes that are due, and says when the next one will be.
func (p *publisher) all(ctx context.Context, changes []Change, now time.Time) (next time.Duration, err error) {
	var errs []error
	for _, c := range changes {
		name := api.BlockName(c.Block)
		if left := publishInterval - now.Sub(p.last[name]); !c.Urgent && left > 0 && left <= publishInterval {
			if next == 0 || left < next {
				next = left
			}
			continue
		}
		if err := p.one(ctx, name, c); err != nil {
			errs = append(errs, fmt.Errorf("publish block %s: %w", c.Block, err))
			if errors.Is(err, store.ErrUnavailable) {
				break
			}
			continue
		}
		p.last[name] = now
	}
	p.forget(now)
	return next, errors.Join(errs...)
}

func (p *publisher) forget(now time.Time) {
	for name, at := range p.last {
		if now.Sub(at) > publishInterval {
			delete(p.last, name)
		}
	}
}

// one writes a block by compare-and-swap on a fresh copy, because the Snapshot's may lag. A
// block that is ours no more is left alone: the Snapshot will say so soon.
func (p *publisher) one(ctx context.Context, name string, c Change) error {
	for range casTries {
		obj, err := p.store.Get(ctx, api.Key{Kind: api.KindIPAMBlock, Name: name})
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		have, ok := obj.(*api.IPAMBlock)
		if !ok || string(have.UID) != c.UID || !ownedBy(have, p.node) {
			return nil
		}
		if termsOf(have) != c.seen {
			return nil // the Snapshot lags
		}
		next, same := updated(have, c)
		if same {
			return nil
		}
		if _, err = p.store.Update(ctx, next); !errors.Is(err, store.ErrConflict) {
			return ignore(err, store.ErrNotFound)
		}
	}
	return store.ErrConflict
}

// updated gives the block's object with what is wanted of it, and whether it has that already. A copy
// that can't be read is replaced.
func updated(have *api.IPAMBlock, c Change) (next *api.IPAMBlock, same bool) {
	want := c.Want
	if b, err := block.From(have.Spec); err == nil {
		if want = merge(want, c.base, b); want.Equal(b) && c.terms == c.seen {
			return nil, true
		}
	}
	next = have.DeepCopy()
	next.Spec = want.Spec()
	next.Spec.SequenceNumber = max(next.Spec.SequenceNumber, have.Spec.SequenceNumber+1)
	c.terms.write(next)
	return next, false
}

// ignore turns harmless errors into success.
func ignore(err error, harmless ...error) error {
	if slices.ContainsFunc(harmless, func(h error) bool { return errors.Is(err, h) }) {
		return nil
	}
	return err
}
