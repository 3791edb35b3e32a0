// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"korat/api"
	"korat/api/store"
)

// A pool that is being deleted goes when none of its blocks is left: whoever sees that first removes it. The node that
// seems to have returned the last block tries at once, each other one after a pause of its own between retireAfter and
// retireAfter+retireSpread, so that hundreds of nodes don't read all blocks at the same moment.
const (
	retireAfter  = 30 * time.Second
	retireSpread = 4 * time.Minute
)

// retirement removes the pools that are being deleted.
type retirement struct {
	store Store
	node  string
	log   *slog.Logger
	// since is when this node first saw a pool without blocks, by its UID.
	since map[string]time.Time
}

func newRetirement(st Store, node string, log *slog.Logger) retirement {
	return retirement{store: st, node: node, log: log, since: map[string]time.Time{}}
}

// all removes the pools whose time has come, and says when to look again.
func (r *retirement) all(ctx context.Context, snap api.Snapshot, now time.Time) (due time.Duration, err error) {
	seen := map[string]time.Time{}
	var errs []error
	for name, pool := range snap.IPPools.All() {
		cidr, err := netip.ParsePrefix(pool.Spec.CIDR)
		if err != nil || !pool.Terminating() {
			continue
		}
		uid, mine := string(pool.UID), r.since[string(pool.UID)]
		others, own := r.blocksIn(snap, cidr)
		switch {
		case own > 0 && others == 0:
			seen[uid] = now.Add(-retireAfter - retireSpread) // once it is gone there is nothing to wait for
			continue
		case own+others > 0:
			continue
		case mine.IsZero():
			mine = now
		}
		seen[uid] = mine
		if left := r.pause(uid) - now.Sub(mine); left > 0 {
			due = sooner(due, left)
			continue
		}
		if err := r.remove(ctx, pool, cidr); err != nil {
			errs = append(errs, fmt.Errorf("remove IPPool/%s, which is being deleted: %w", name, err))
		}
	}
	r.since = seen
	return due, errors.Join(errs...)
}

// pause is how long this node waits for others to remove a pool.
func (r *retirement) pause(uid string) time.Duration {
	sum := sha256.Sum256([]byte(r.node + " " + uid))
	return retireAfter + time.Duration(binary.BigEndian.Uint64(sum[:])%uint64(retireSpread))
}

// blocksIn counts the claims of others and of this node that a range has something of.
func (r *retirement) blocksIn(snap api.Snapshot, cidr netip.Prefix) (others, own int) {
	for _, obj := range snap.IPAMBlocks.All() {
		switch {
		case !overlaps(obj.Spec.CIDR, cidr):
		case ownedBy(obj, r.node):
			own++
		default:
			others++
		}
	}
	for _, obj := range snap.BlockAffinities.All() {
		switch {
		case !overlaps(obj.Spec.CIDR, cidr):
		case obj.Spec.Node == r.node:
			own++
		default:
			others++
		}
	}
	return others, own
}

// remove deletes the pool if, by what the datastore has now, it is still being deleted and has no blocks. A claim
// that is under way finds out; see claims.open.
func (r *retirement) remove(ctx context.Context, seen *api.IPPool, cidr netip.Prefix) error {
	pool, err := get[*api.IPPool](ctx, r.store, seen.Key())
	if err != nil || pool == nil || pool.UID != seen.UID || !pool.Terminating() {
		return err
	}
	if slices.ContainsFunc(pool.Finalizers, func(f string) bool { return f != api.PoolFinalizer }) {
		return nil // others keep it
	}
	var snap api.Snapshot
	for _, kind := range []api.Kind{api.KindIPAMBlock, api.KindBlockAffinity} {
		err := each(ctx, r.store, kind, func(obj api.Object) { snap = snap.With(obj) })
		if err != nil {
			return err
		}
	}
	if others, own := r.blocksIn(snap, cidr); others+own > 0 {
		return nil
	}
	err = r.store.Delete(ctx, pool.Key(), pool.ResourceVersion)
	if err == nil {
		r.log.Info("pool removed with its last block", "pool", pool.Name)
	}
	return ignore(err, store.ErrNotFound, store.ErrConflict)
}
