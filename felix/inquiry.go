// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// heldOff is how long who inquires waits for the loop.
const heldOff = 5 * time.Second

// inquire has the loop find something out, between two passes. find must be quick, and change nothing.
func inquire[T any](ctx context.Context, a *Agent, find func() T) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, heldOff)
	defer cancel()
	found := make(chan T, 1)
	var none T
	select {
	case a.calls <- call{inquiry: func() { found <- find() }}:
	case <-ctx.Done():
		return none, a.late(ctx)
	}
	select {
	case result := <-found:
		return result, nil
	case <-ctx.Done():
		return none, a.late(ctx)
	}
}

// late says why the loop has not answered.
func (a *Agent) late(ctx context.Context) error {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ctx.Err()
	}
	if what := a.report.busy(heldUp); what != "" {
		return fmt.Errorf("the agent is held up: %s", what)
	}
	return fmt.Errorf("the agent's loop has not answered for %s", heldOff)
}

// take takes a call, and says whether a pass is to be made for it.
func (a *Agent) take(c call) bool {
	if c.inquiry != nil {
		c.inquiry()
		return false
	}
	a.queue = append(a.queue, c)
	return true
}
