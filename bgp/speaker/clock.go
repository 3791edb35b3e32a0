// SPDX-License-Identifier: Apache-2.0

package speaker

import "time"

const (
	// listPeriod is how often counters and reasons are read; after a session's change they are read
	// once listDelay has passed, so that a hundred changes cost one reading.
	listPeriod = 5 * time.Second
	listDelay  = 200 * time.Millisecond

	minRetry, maxRetry = time.Second, 30 * time.Second
)

// clock is the timers of one connection.
type clock struct {
	// list is when the peers are read next, soon whether that is already within listDelay.
	list             *time.Timer
	soon, listFailed bool
	// retry is when a plan that could not be applied is tried again.
	retry   *time.Timer
	backoff time.Duration
	// deadline is when neighbours that have not come back are no longer waited for.
	deadline *time.Timer
}

func newClock() *clock {
	k := &clock{list: time.NewTimer(0), soon: true, retry: time.NewTimer(0), backoff: minRetry, deadline: time.NewTimer(0)}
	k.retry.Stop()
	k.deadline.Stop()
	return k
}

func (k *clock) stop() {
	k.list.Stop()
	k.retry.Stop()
	k.deadline.Stop()
}

// listSoon brings the next reading forward. In a storm of changes it is not put off again and again.
func (k *clock) listSoon() {
	if !k.soon {
		k.soon = true
		k.list.Reset(listDelay)
	}
}

func (k *clock) listed(failed bool) {
	k.soon, k.listFailed = false, failed
	k.list.Reset(listPeriod)
}

func (k *clock) applied(failed bool) {
	if !failed {
		k.backoff = minRetry
		k.retry.Stop()
		return
	}
	k.retry.Reset(k.backoff)
	k.backoff = min(2*k.backoff, maxRetry)
}
