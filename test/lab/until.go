// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"time"
)

// untilInterval is short against what a person notices and long against what a check costs.
const untilInterval = 20 * time.Millisecond

// Until calls check again and again until it returns nil. When the context ends first, the error
// names what was waited for and carries check's last word.
func Until(ctx context.Context, what string, check func(context.Context) error) error {
	tick := time.NewTicker(untilInterval)
	defer tick.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w: %w", what, context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}
