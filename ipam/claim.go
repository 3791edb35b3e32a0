// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"korat/api"
	"korat/api/store"
	"korat/ipam/block"
)

// flightTime is how long a finished claim may take to show in a Snapshot before the datastore is
// asked about it. It is shorter than an ADD waits: a claim that somebody else has undone meanwhile may never show.
const flightTime = 2 * time.Second

// errTaken: another node was faster.
var errTaken = errors.New("the block belongs to another node")

// errClosed: this node gets no more blocks of the pool.
var errClosed = errors.New("the pool is closed to this node")

// claims makes blocks this node's. The order of a claim is: affinity pending, block created,
// affinity confirmed. Creating the block is what decides between nodes, with a look at all blocks in case
// two see different block sizes; a block is used once both objects agree. So a crash anywhere leaves nothing that two nodes could use, and doing it again
// from the start completes it.
type claims struct {
	store Store
	node  string
	log   *slog.Logger
	snap  api.Snapshot
	// hosts are the ranges of hosts that overlap a pool.
	hosts []Obstacle
	// flying are claims that the Snapshot does not show yet: no more is claimed meanwhile.
	flying map[netip.Prefix]time.Time
	// full are the pools without a free block.
	full map[string]bool
	// own are this node's affinities in snap.
	own []*api.BlockAffinity
	// checked is what heal found about them.
	checked map[string]check
	// used are the addresses of this node's pods.
	used []netip.Addr
	// problems are contradictions for a human; those of the last search of all blocks for ones without
	// affinity are in scanned.
	problems []string
	scanned  scanned
}

// scanned is what was searched, when, and what was found.
type scanned struct {
	snap     api.Snapshot
	at       time.Time
	misnamed []string
}

func newClaims(st Store, node string, log *slog.Logger) claims {
	return claims{store: st, node: node, log: log, flying: map[netip.Prefix]time.Time{}, full: map[string]bool{}}
}

// see takes in a Snapshot.
func (c *claims) see(snap api.Snapshot) {
	before := c.snap
	c.snap = snap
	if !before.InSync || !snap.BlockAffinities.Same(before.BlockAffinities) {
		c.own = ownAffinities(snap, c.node)
	}
	// Whoever takes or gives up a block changes the affinities as well.
	if !snap.BlockAffinities.Same(before.BlockAffinities) || snap.IPAMBlocks.Len() != before.IPAMBlocks.Len() ||
		!snap.IPPools.Same(before.IPPools) || !snap.IPReservations.Same(before.IPReservations) {
		clear(c.full)
	}
	for _, aff := range c.own {
		p, err := netip.ParsePrefix(aff.Spec.CIDR)
		if err == nil && aff.Spec.State == api.AffinityConfirmed && c.ours(p) {
			delete(c.flying, p)
		}
	}
}

// avoid takes in the ranges that belong to hosts.
func (c *claims) avoid(hosts []Obstacle) {
	if !slices.Equal(hosts, c.hosts) {
		clear(c.full)
	}
	c.hosts = hosts
}

// ours says whether the Snapshot has the block as this node's.
func (c *claims) ours(p netip.Prefix) bool {
	obj, ok := c.snap.IPAMBlocks.Get(api.BlockName(p))
	return ok && ownedBy(obj, c.node)
}

// exhausted names the pools without a free block, in order.
func (c *claims) exhausted() []string { return slices.Sorted(maps.Keys(c.full)) }

// meet claims what is needed.
func (c *claims) meet(ctx context.Context, needs []Need, now time.Time) error {
	if err := c.land(ctx, now); err != nil {
		return err
	}
	var errs []error
	for _, n := range needs {
		rescue := n.Block.IsValid() && c.inUse(n.Block)
		if c.awaited(n) || !rescue && limitsIn(c.snap).bars(c.blocks()) {
			continue
		}
		var err error
		if n.Block.IsValid() {
			err = c.claimOne(ctx, n, now)
		} else {
			err = c.claimAny(ctx, n, now)
		}
		errs = append(errs, err)
		if errors.Is(err, store.ErrUnavailable) {
			break
		}
	}
	return errors.Join(errs...)
}

// blocks counts those that this node has, gets or gives back.
func (c *claims) blocks() int {
	n := len(c.own)
	for p := range c.flying {
		if !slices.ContainsFunc(c.own, func(aff *api.BlockAffinity) bool { return aff.Spec.CIDR == p.String() }) {
			n++
		}
	}
	return n
}

// land asks the datastore about claims that the Snapshot should have shown long ago. One that came
// to nothing may be made again.
func (c *claims) land(ctx context.Context, now time.Time) error {
	for p, since := range c.flying {
		if now.Sub(since) < flightTime {
			continue
		}
		aff, blk, err := c.read(ctx, p)
		if err != nil {
			return err
		}
		if blk != nil && ownedBy(blk, c.node) && aff != nil && aff.Spec.State == api.AffinityConfirmed {
			c.flying[p] = now
		} else {
			delete(c.flying, p)
		}
	}
	return nil
}

// awaited says whether a claim that is under way meets the need.
func (c *claims) awaited(n Need) bool {
	for p := range c.flying {
		if p == n.Block || !n.Block.IsValid() && slices.ContainsFunc(n.Pools, func(pool Pool) bool { return pool.holds(p) }) {
			return true
		}
	}
	return false
}

// claimOne claims a specific block. If another node has it, the next Snapshot tells the request.
func (c *claims) claimOne(ctx context.Context, n Need, now time.Time) error {
	for _, pool := range n.Pools {
		obs := c.obstacles(pool)
		if r, ok := obs.taken(n.Block); ok && !c.ours(n.Block) {
			c.problems = append(c.problems, fmt.Sprintf("block %s is wanted, but %s is taken", n.Block, r))
			return nil
		}
	}
	return ignore(c.claim(ctx, n.Block, now), errTaken, errClosed)
}

// claimAny claims one block of the first pool that has a free one.
func (c *claims) claimAny(ctx context.Context, n Need, now time.Time) error {
	for _, pool := range n.Pools {
		if c.full[pool.Name] {
			continue
		}
		if none, err := c.claimOf(ctx, pool, now); !none {
			return err
		}
	}
	return nil
}

// claimOf claims one block of the pool; none if the pool has none for this node. It goes on to the next free block
// for as long as other nodes are faster.
func (c *claims) claimOf(ctx context.Context, pool Pool, now time.Time) (none bool, err error) {
	obs := c.obstacles(pool)
	for {
		b, ok := pool.free(c.node, obs)
		if !ok {
			c.full[pool.Name] = true
			return true, nil
		}
		err := c.claim(ctx, b, now)
		if errors.Is(err, errClosed) {
			return true, nil // the next Snapshot says so
		}
		if !errors.Is(err, errTaken) {
			return false, err
		}
		obs.exact[b] = true
		var overlap *overlapError
		if errors.As(err, &overlap) {
			obs.add(pool, overlap.with.Spec.CIDR)
		}
	}
}

// claim makes one block ours, from wherever an earlier attempt left off.
func (c *claims) claim(ctx context.Context, p netip.Prefix, now time.Time) error {
	return c.claimWith(ctx, p, nil, now)
}

// claimWith claims a block some of whose addresses have holders already.
func (c *claims) claimWith(ctx context.Context, p netip.Prefix, held map[netip.Addr]block.Holder, now time.Time) error {
	err := c.advance(ctx, p, held)
	if err != nil {
		return fmt.Errorf("claim block %s: %w", p, err)
	}
	c.flying[p] = now
	return nil
}

// advance goes through the three steps. What is there already, made by an attempt whose answer was
// lost, is taken as it is.
func (c *claims) advance(ctx context.Context, p netip.Prefix, held map[netip.Addr]block.Holder) error {
	for range casTries {
		err := c.attempt(ctx, p, held)
		if !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	return store.ErrConflict
}

func (c *claims) attempt(ctx context.Context, p netip.Prefix, held map[netip.Addr]block.Holder) error {
	aff, err := c.pending(ctx, p)
	if err != nil {
		return err
	}
	blk, created, err := c.create(ctx, p, held)
	if errors.Is(err, errTaken) {
		return errors.Join(err, c.drop(ctx, aff))
	}
	if err != nil {
		return err
	}
	confirmed := aff.Spec.State == api.AffinityConfirmed
	if created {
		err = c.open(ctx, aff, blk)
	}
	if err == nil && (created || !confirmed) {
		err = c.alone(ctx, aff, blk)
	}
	if err != nil || confirmed {
		return err
	}
	next := aff.DeepCopy()
	next.Spec.State = api.AffinityConfirmed
	if _, err = c.store.Update(ctx, next); err == nil {
		c.log.Info("block claimed", "block", p.String())
	}
	return err
}

// pending is the first step.
func (c *claims) pending(ctx context.Context, p netip.Prefix) (*api.BlockAffinity, error) {
	aff := &api.BlockAffinity{
		ObjectMeta: metav1.ObjectMeta{Name: api.AffinityName(c.node, p)},
		Spec:       api.BlockAffinitySpec{State: api.AffinityPending, Node: c.node, CIDR: p.String()},
	}
	api.Default(aff)
	obj, err := c.store.Create(ctx, aff)
	if errors.Is(err, store.ErrExists) {
		obj, err = c.store.Get(ctx, aff.Key())
	}
	if err != nil {
		return nil, err
	}
	have, ok := obj.(*api.BlockAffinity)
	switch {
	case !ok || have.Spec.Node != c.node || have.Spec.CIDR != p.String():
		return nil, fmt.Errorf("%s is not about this node and block: delete it", aff.Key())
	case have.Spec.State == api.AffinityPendingDeletion:
		return nil, fmt.Errorf("%w: %s is being released", errTaken, aff.Key())
	}
	return have, nil
}

// create is the second step. It gives the block, and whether it is new.
func (c *claims) create(ctx context.Context, p netip.Prefix, held map[netip.Addr]block.Holder) (blk *api.IPAMBlock, created bool, err error) {
	b, err := block.New(p, affinityOf(c.node))
	if err != nil {
		return nil, false, err
	}
	for addr, h := range held {
		if err := b.AssignAddr(addr, h); err != nil {
			return nil, false, err
		}
	}
	obj := &api.IPAMBlock{ObjectMeta: metav1.ObjectMeta{Name: api.BlockName(p)}, Spec: b.Spec()}
	api.Default(obj)
	have, err := c.store.Create(ctx, obj)
	created = err == nil
	if errors.Is(err, store.ErrExists) {
		have, err = c.store.Get(ctx, obj.Key())
	}
	if err != nil {
		return nil, false, err
	}
	blk, ok := have.(*api.IPAMBlock)
	if !ok || !ownedBy(blk, c.node) {
		return nil, false, errTaken
	}
	return blk, created, nil
}
