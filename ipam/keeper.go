// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"korat/api/store"
	"korat/api/wake"
)

// publishInterval is the least time between two writes of one block.
const publishInterval = time.Second

// The pause after a failed pass grows from minPause to maxPause. It is short: 500 nodes that ask
// every two seconds are no load, and pods may be waiting.
const (
	minPause = 100 * time.Millisecond
	maxPause = 2 * time.Second
)

// maxPass bounds a pass, so that a datastore that hangs shows in Status.
const maxPass = 10 * time.Second

// Store is what the Keeper needs of the datastore.
type Store interface {
	store.Reader
	store.Writer
}

// Keeper makes the datastore hold what the Allocator wants: blocks claimed for this node, and their
// contents. It works from the newest Wants alone, so that nothing is lost while the datastore is
// away or when the process dies.
type Keeper struct {
	log  *slog.Logger
	kick wake.Signal
	wake wake.Signal

	claims  claims
	publish publisher
	borrow  borrower
	returns returns
	retire  retirement

	mu    sync.Mutex
	wants Wants
	state Status
	told  told
}

// told is what the Allocator is told.
type told struct {
	// full are the pools that had no free block at the last look.
	full []string
	// leaving are the blocks that are being given back.
	leaving []netip.Prefix
}

// Status is how the Keeper fares.
type Status struct {
	// Err is what the last pass failed with; it is retried. Nil when all is as wanted.
	Err error
	// Problems are contradictions that the Keeper leaves to a human.
	Problems []string
}

// NewKeeper allocates the keeper of a node's blocks.
func NewKeeper(st Store, node string, log *slog.Logger) *Keeper {
	return &Keeper{
		log: log, kick: wake.New(), wake: wake.New(),
		claims:  newClaims(st, node, log),
		publish: publisher{store: st, node: node, last: map[string]time.Time{}},
		borrow:  newBorrower(st, node, log),
		returns: newReturns(),
		retire:  newRetirement(st, node, log),
	}
}

// Want replaces what is wanted. It never blocks.
func (k *Keeper) Want(w Wants) {
	k.mu.Lock()
	k.wants = w
	k.mu.Unlock()
	k.kick.Poke()
}

// Status says how the last pass went.
func (k *Keeper) Status() Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	return Status{k.state.Err, slices.Clone(k.state.Problems)}
}

// Exhausted names the pools that a block was wanted from and that had none left; see
// Allocator.SetExhausted.
func (k *Keeper) Exhausted() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.told.full)
}

// Leaving gives the blocks that are to be given back; see Allocator.SetLeaving.
func (k *Keeper) Leaving() []netip.Prefix {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.told.leaving)
}

// Wake is poked when Status, Exhausted or Leaving has changed.
func (k *Keeper) Wake() <-chan struct{} { return k.wake }

// Run works until ctx is done.
func (k *Keeper) Run(ctx context.Context) {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = minPause, maxPause
	for {
		due, err := k.pass(ctx)
		if ctx.Err() != nil {
			return
		}
		kick := k.kick
		if err == nil {
			pause.Reset()
		} else {
			due, kick = pause.NextBackOff(), nil // new wishes wait too, the datastore is unwell
		}
		if !wait(ctx, kick, due) {
			return
		}
	}
}

// wait returns at a kick or when due, if that is not zero; false once ctx is done.
func wait(ctx context.Context, kick <-chan struct{}, due time.Duration) bool {
	var at <-chan time.Time
	if due > 0 {
		timer := time.NewTimer(due)
		defer timer.Stop()
		at = timer.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-kick:
	case <-at:
	}
	return true
}

// pass does once what the newest Wants ask for, and says when it has to be called again without
// being asked, if at all.
func (k *Keeper) pass(ctx context.Context) (due time.Duration, err error) {
	k.mu.Lock()
	w := k.wants
	k.mu.Unlock()
	if !w.Snapshot.InSync || !w.Snapshot.DatastoreReady() {
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(ctx, maxPass)
	defer cancel()
	now := time.Now()
	k.claims.see(w.Snapshot)
	k.claims.avoid(w.Obstacles)
	k.claims.used = w.Used
	due = k.returns.see(w, now)
	errs := []error{k.claims.heal(ctx, now)}
	if !errors.Is(errs[0], store.ErrUnavailable) {
		errs = append(errs, k.claims.meet(ctx, k.returns.without(w.Needs), now))
		published, publishErr := k.publish.all(ctx, w.Changes, now)
		borrowed, borrowErr := k.borrow.all(ctx, w, now)
		errs = append(errs, publishErr, borrowErr, k.returns.carryOut(ctx, &k.claims, w.Closed, now))
		retired, retireErr := k.retire.all(ctx, w.Snapshot, now)
		errs = append(errs, retireErr)
		due = sooner(sooner(due, published), sooner(borrowed, retired))
	}
	err = errors.Join(errs...)
	k.report(err)
	if len(k.claims.flying) > 0 {
		due = sooner(due, flightTime)
	}
	return due, err
}

// report makes the pass's outcome visible, and logs an error when it first shows.
func (k *Keeper) report(err error) {
	next := Status{err, k.claims.problems}
	tell := told{k.claims.exhausted(), k.returns.list()}
	k.mu.Lock()
	before := k.state
	changed := text(before.Err) != text(err) || !slices.Equal(before.Problems, next.Problems) ||
		!slices.Equal(k.told.full, tell.full) || !slices.Equal(k.told.leaving, tell.leaving)
	k.state, k.told = next, tell
	k.mu.Unlock()
	if !changed {
		return
	}
	if err != nil && text(before.Err) != text(err) {
		k.log.Warn("address blocks", "error", err)
	}
	for _, problem := range next.Problems {
		if !slices.Contains(before.Problems, problem) {
			k.log.Warn("address blocks need a human", "problem", problem)
		}
	}
	k.wake.Poke()
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
