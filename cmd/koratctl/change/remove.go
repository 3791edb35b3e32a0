// SPDX-License-Identifier: Apache-2.0

package change

import (
	"context"
	"time"

	"korat/api"
	"korat/api/store"
	"korat/cmd/koratctl/manifest"
	"korat/cmd/koratctl/picture"
)

// Remove deletes every item, what others refer to last. A pool with addresses in use is marked as being deleted
// instead, unless force says otherwise: without it nobody could say any more whether they were to be advertised. A tier
// with policies is refused.
func Remove(ctx context.Context, st store.Store, items []manifest.Item, force bool, now time.Time) ([]Outcome, error) {
	items = ordered(Delete, items)
	if err := writable(items); err != nil {
		return nil, err
	}
	return each(items, func(it manifest.Item) (string, error) {
		if it.Object.Key().Kind == api.KindIPPool && !force {
			return removePool(ctx, st, it.Object, now)
		}
		if err := removable(ctx, st, it.Object.Key()); err != nil {
			return "", err
		}
		if err := st.Delete(ctx, it.Object.Key(), it.Object.GetResourceVersion()); err != nil {
			return "", err
		}
		return "deleted", nil
	})
}

// removable refuses to delete a tier that has policies.
func removable(ctx context.Context, st store.Reader, key api.Key) error {
	if key.Kind != api.KindTier {
		return nil
	}
	snap, err := picture.Read(ctx, st, api.KindNetworkPolicy, api.KindGlobalNetworkPolicy, api.KindStagedNetworkPolicy, api.KindStagedGlobalNetworkPolicy)
	if err != nil {
		return err
	}
	return api.ValidateDelete(key, snap)
}
