// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"time"

	"korat/api"
	"korat/felix/reconcile"
	"korat/policy"
)

// setPause is between two tries to destroy sets, of which the kernel lets go some time after the last rule.
const setPause = 50 * time.Millisecond

// RemoveChains removes what is ours from both of iptables' backends, for who wants no agent on a host any more: one that runs
// would put all of it back. Where a backend has no programs it is left alone. It gives the number of chains that it removed.
func (h *Handle) RemoveChains(ctx context.Context, c ChainsConfig) (removed int, err error) {
	c = c.filled()
	var errs []error
	for _, c.Backend = range []Backend{NFT, Legacy} {
		for _, f := range api.Families() {
			n, err := (&side{h: h, config: c, family: f}).clear(ctx)
			removed += n
			if err != nil {
				errs = append(errs, fmt.Errorf("remove %s chains of iptables' backend %s: %w", f, c.Backend, err))
			}
		}
	}
	return removed, errors.Join(errs...)
}

// RemoveSets removes all sets that are ours, after the chains, and gives their number. One that rules of others look into
// stays, and is in the error; it is tried until ctx is done.
func (h *Handle) RemoveSets(ctx context.Context) (removed int, err error) {
	sets, lasting := h.Sets(0), context.WithoutCancel(ctx)
	pause := time.NewTicker(setPause)
	defer pause.Stop()
	for {
		have, err := sets.ReadSizes(lasting)
		if err != nil || len(have) == 0 {
			return removed, err
		}
		changes := make([]SetChange, 0, len(have))
		for key := range have {
			changes = append(changes, SetChange{Key: key, Destroy: true})
		}
		err = sets.Write(lasting, changes)
		failed, some := reconcile.Failures[policy.SetKey](err)
		if err != nil && !some {
			return removed, err
		}
		removed += len(have) - len(failed)
		select {
		case <-ctx.Done():
			return removed, err
		case <-pause.C:
		}
	}
}
