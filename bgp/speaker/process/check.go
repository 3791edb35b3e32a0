// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"fmt"
	"os"
	"runtime/pprof"
	"time"
)

const (
	// checkPeriod times maxMissed is how long GoBGP may leave a question unanswered. It is less than
	// the sessions' usual hold time (90s): the neighbours then see a graceful restart (RFC 4724), and
	// not a hold timer that expires, upon which they would drop our routes.
	checkPeriod = 10 * time.Second
	maxMissed   = 3
)

// answers asks once per period until ctx is done, and gives an error when the answer has not come
// after several periods. It counts ticks, of which a process that was frozen meanwhile misses all but one.
func answers(ctx context.Context, period time.Duration, ask func()) error {
	tick := time.NewTicker(period)
	defer tick.Stop()
	done := make(chan struct{}, 1)
	for waiting, missed := false, 0; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-done:
			waiting, missed = false, 0
			continue
		case <-tick.C:
		}
		if waiting {
			if missed++; missed >= maxMissed {
				return fmt.Errorf("the BGP server has not answered for %s", maxMissed*period)
			}
			continue
		}
		waiting = true
		go func() { ask(); done <- struct{}{} }()
	}
}

// writeStacks keeps what every goroutine is doing: all that tells why nothing moves.
func writeStacks(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return pprof.Lookup("goroutine").WriteTo(f, 2)
}
