// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"korat/api"
	"korat/api/store"
	"korat/ipam/block"
)

// scanInterval is the least time between two searches of all blocks for ones without affinity.
const scanInterval = 30 * time.Second

// ownAffinities gives this node's affinities, in order of their names.
func ownAffinities(snap api.Snapshot, node string) []*api.BlockAffinity {
	var own []*api.BlockAffinity
	for _, obj := range snap.AffinitiesOf(node) {
		own = append(own, obj)
	}
	return own
}

// heal completes or takes back what crashes left half done, and finds what it must leave to a
// human. The Snapshot only says where to look: what is done is decided on fresh copies.
func (c *claims) heal(ctx context.Context, now time.Time) error {
	var errs []error
	c.problems = nil
	checked := map[string]check{}
	for _, aff := range c.own {
		blk := c.blockOf(aff)
		v, ok := c.checked[aff.Name]
		if !ok || v.aff != aff || v.blk != blk || now.Sub(v.at) >= scanInterval {
			problem, err := c.settle(ctx, aff, now)
			if err != nil {
				errs = append(errs, fmt.Errorf("heal %s: %w", aff.Key(), err))
			}
			if errors.Is(err, store.ErrUnavailable) {
				return errors.Join(errs...)
			}
			v = check{aff, blk, now, problem}
			if err != nil {
				continue
			}
		}
		checked[aff.Name] = v
		if v.problem != "" {
			c.problems = append(c.problems, fmt.Sprintf("%s: %s", aff.Key(), v.problem))
		}
	}
	c.checked = checked
	return errors.Join(append(errs, c.adopt(ctx, now))...)
}

// check is what settle found, and for which copies.
type check struct {
	aff     *api.BlockAffinity
	blk     *api.IPAMBlock
	at      time.Time
	problem string
}

// blockOf gives the Snapshot's copy of an affinity's block, or nil.
func (c *claims) blockOf(aff *api.BlockAffinity) *api.IPAMBlock {
	p, err := netip.ParsePrefix(aff.Spec.CIDR)
	if err != nil {
		return nil
	}
	blk, _ := c.snap.IPAMBlocks.Get(api.BlockName(p))
	return blk
}

// settle deals with one affinity of this node.
func (c *claims) settle(ctx context.Context, aff *api.BlockAffinity, now time.Time) (problem string, err error) {
	p, err := netip.ParsePrefix(aff.Spec.CIDR)
	if err != nil || p != p.Masked() || aff.Name != api.AffinityName(c.node, p) {
		return fmt.Sprintf("spec.cidr %q does not fit its name: delete it", aff.Spec.CIDR), nil
	}
	if _, flying := c.flying[p]; flying || aff.Spec.State == api.AffinityConfirmed && c.ours(p) {
		return "", nil
	}
	fresh, blk, err := c.read(ctx, p)
	if err != nil || fresh == nil {
		return "", err
	}
	switch {
	case fresh.Spec.State == api.AffinityPendingDeletion:
		_, err := c.release(ctx, p)
		return "", err
	case blk != nil && ownedBy(blk, c.node):
		return c.resume(ctx, p, now)
	case blk != nil:
		return "", c.drop(ctx, fresh)
	case !c.wanted(p) && !c.inUse(p):
		return "", c.drop(ctx, fresh)
	case fresh.Spec.State == api.AffinityConfirmed:
		return c.recreate(ctx, p, now)
	case c.rival(p) == "":
		return "", ignore(c.claim(ctx, p, now), errTaken, errClosed)
	default:
		return "", c.drop(ctx, fresh)
	}
}

// resume completes a claim that has its block.
func (c *claims) resume(ctx context.Context, p netip.Prefix, now time.Time) (problem string, err error) {
	err = c.claim(ctx, p, now)
	var overlap *overlapError
	if errors.As(err, &overlap) && overlap.kept {
		return overlap.Error() + ": remove the pods of one of the two, then delete its IPAMBlock and BlockAffinity", nil
	}
	return "", ignore(err, errTaken, errClosed)
}

// recreate makes the object of a confirmed block anew. The addresses that are in use here are
// published into it later; those that pods of other nodes have borrowed are known from their endpoints. Nobody
// else may have a claim to any of it.
func (c *claims) recreate(ctx context.Context, p netip.Prefix, now time.Time) (problem string, err error) {
	if why := c.rival(p); why != "" {
		return fmt.Sprintf("its IPAMBlock/%s is gone, and %s: delete one of the two", api.BlockName(p), why), nil
	}
	var other *api.BlockAffinity
	err = each(ctx, c.store, api.KindBlockAffinity, func(obj *api.BlockAffinity) {
		if other == nil && obj.Spec.Node != c.node && overlaps(obj.Spec.CIDR, p) {
			other = obj
		}
	})
	switch {
	case err != nil:
		return "", err
	case other != nil:
		return fmt.Sprintf("its IPAMBlock/%s is gone, and node %q claims %s: delete one of the two", api.BlockName(p), other.Spec.Node, other.Spec.CIDR), nil
	}
	borrowed, err := c.borrowed(ctx, p)
	if err != nil {
		return "", err
	}
	c.log.Warn("block object was deleted: making it anew", "block", p.String(), "borrowed", len(borrowed))
	return "", ignore(c.claimWith(ctx, p, borrowed, now), errTaken, errClosed)
}

// borrowed gives what pods of other nodes have of a block, by their endpoints. Their node says later by which handle.
func (c *claims) borrowed(ctx context.Context, p netip.Prefix) (map[netip.Addr]block.Holder, error) {
	held := map[netip.Addr]block.Holder{}
	var unread error
	err := each(ctx, c.store, api.KindWorkloadEndpoint, func(ep *api.WorkloadEndpoint) {
		if api.Hollow(ep) {
			unread = api.Fault(ep) // any address may be its own
		}
		if ep.Spec.Node == c.node {
			return
		}
		for _, text := range ep.Spec.IPNetworks {
			if network, err := netip.ParsePrefix(text); err == nil && p.Contains(network.Addr()) {
				held[network.Addr()] = block.Lease(ep.Spec.Node, "unknown")
			}
		}
	})
	return held, errors.Join(err, unread)
}

// rival says who else has a claim to some of a block, by the Snapshot; empty if nobody.
func (c *claims) rival(p netip.Prefix) string {
	for _, obj := range c.snap.BlockAffinities.All() {
		if obj.Spec.Node != c.node && obj.Spec.State == api.AffinityConfirmed && overlaps(obj.Spec.CIDR, p) {
			return fmt.Sprintf("node %q has a confirmed claim on %s", obj.Spec.Node, obj.Spec.CIDR)
		}
	}
	for name, obj := range c.snap.IPAMBlocks.All() {
		if name != api.BlockName(p) && overlaps(obj.Spec.CIDR, p) {
			return fmt.Sprintf("IPAMBlock/%s overlaps it", name)
		}
	}
	return ""
}

func overlaps(cidr string, p netip.Prefix) bool {
	q, err := netip.ParsePrefix(cidr)
	return err == nil && q.Overlaps(p)
}

// wanted says whether a pool that gives this node addresses has such blocks.
func (c *claims) wanted(p netip.Prefix) bool {
	pool, ok := c.poolOf(p)
	return ok && pool.BlockBits == p.Bits()
}

// poolOf gives the pool that a block is of, if it gives this node addresses.
func (c *claims) poolOf(p netip.Prefix) (Pool, bool) {
	enabled := readPools(c.snap.IPPools, nodeLabels(c.snap, c.node)).enabled
	i := slices.IndexFunc(enabled, func(pool Pool) bool { return pool.holds(p) })
	if i < 0 {
		return Pool{}, false
	}
	return enabled[i], true
}

// adopt completes blocks that name this node as their owner but have no affinity: somebody has
// deleted it, or a write outlived the process that sent it.
func (c *claims) adopt(ctx context.Context, now time.Time) error {
	same := c.snap.IPAMBlocks.Same(c.scanned.snap.IPAMBlocks) && c.snap.BlockAffinities.Same(c.scanned.snap.BlockAffinities)
	var err error
	if !same && now.Sub(c.scanned.at) >= scanInterval {
		if err = c.scan(ctx, now); err == nil {
			c.scanned.snap, c.scanned.at = c.snap, now
		}
	}
	c.problems = append(c.problems, c.scanned.misnamed...)
	return err
}

func (c *claims) scan(ctx context.Context, now time.Time) error {
	c.scanned.misnamed = nil
	known := map[string]bool{}
	for _, aff := range c.own {
		known[aff.Spec.CIDR] = true
	}
	var errs []error
	for name, obj := range c.snap.IPAMBlocks.All() {
		if !ownedBy(obj, c.node) || known[obj.Spec.CIDR] {
			continue
		}
		p, err := netip.ParsePrefix(obj.Spec.CIDR)
		if err != nil || name != api.BlockName(p) {
			c.scanned.misnamed = append(c.scanned.misnamed, fmt.Sprintf("%s: spec.cidr %q does not fit its name: delete it", obj.Key(), obj.Spec.CIDR))
			continue
		}
		errs = append(errs, ignore(c.claim(ctx, p, now), errTaken, errClosed))
	}
	return errors.Join(errs...)
}
