// SPDX-License-Identifier: Apache-2.0

package change

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"korat/api"
	"korat/api/store"
	"korat/cmd/koratctl/manifest"
	"korat/cmd/koratctl/picture"
)

// Remove deletes every item, what others refer to last. Nothing is deleted if a pool has addresses in
// use, unless force says so: nobody could say any more whether they were to be advertised.
func Remove(ctx context.Context, st store.Store, items []manifest.Item, force bool) ([]Outcome, error) {
	items = ordered(Delete, items)
	if err := writable(items); err != nil {
		return nil, err
	}
	if !force {
		if err := unused(ctx, st, items); err != nil {
			return nil, err
		}
	}
	return each(items, func(it manifest.Item) (string, error) {
		if err := st.Delete(ctx, it.Object.Key(), it.Object.GetResourceVersion()); err != nil {
			return "", err
		}
		return "deleted", nil
	})
}

// unused refuses the pools whose blocks hold addresses.
func unused(ctx context.Context, st store.Reader, items []manifest.Item) error {
	var snap api.Snapshot
	var errs []error
	for _, it := range items {
		if it.Object.Key().Kind != api.KindIPPool {
			continue
		}
		if !snap.InSync {
			var err error
			if snap, err = picture.Read(ctx, st, api.KindIPPool, api.KindIPAMBlock); err != nil {
				return err
			}
		}
		pool, exists := snap.IPPools.Get(it.Object.GetName())
		if !exists {
			continue // deleting it will say so
		}
		if held := holds(snap, pool); held > 0 {
			errs = append(errs, it.Located(fmt.Errorf("%s: its blocks hold %d addresses: set spec.disabled to true, remove the pods that have them "+
				"(koratctl ipam show --show-blocks), then delete it; --force deletes it at once, and other nodes can't reach those pods any more", pool.Key(), held)))
		}
	}
	return errors.Join(errs...)
}

// holds counts the addresses of a pool that are in use.
func holds(snap api.Snapshot, pool *api.IPPool) int {
	p, err := netip.ParsePrefix(pool.Spec.CIDR)
	if err != nil {
		return 0
	}
	held := 0
	for _, block := range snap.IPAMBlocks.All() {
		if b, err := netip.ParsePrefix(block.Spec.CIDR); err != nil || !p.Overlaps(b) {
			continue
		}
		for _, attribute := range block.Spec.Allocations {
			if attribute != nil {
				held++
			}
		}
	}
	return held
}
