// SPDX-License-Identifier: Apache-2.0

package speaker

import "time"

const (
	// listPeriod is how often counters and reasons are read, and calmPeriod how often while all sessions are established and the
	// last reading has found nothing new: reading twenty sessions each five seconds was half of what agent and speaker
	// took while nothing happened. After a session's change they are read once listDelay has passed, and after a
	// path's once countDelay has, so that a hundred changes cost one reading.
	listPeriod = 5 * time.Second
	calmPeriod = 15 * time.Second
	listDelay  = 200 * time.Millisecond
	countDelay = 2 * time.Second

	minRetry, maxRetry = time.Second, 30 * time.Second
)

// clock is the timers of one connection.
type clock struct {
	// list is when the peers are read next: at due.
	list *time.Timer
	due  time.Time
	// retry is when a plan that could not be applied is tried again.
	retry   *time.Timer
	backoff time.Duration
	// deadline is when neighbours that have not come back are no longer waited for.
	deadline *time.Timer
}

func newClock() *clock {
	k := &clock{list: time.NewTimer(0), due: time.Now(), retry: time.NewTimer(0), backoff: minRetry, deadline: time.NewTimer(0)}
	k.retry.Stop()
	k.deadline.Stop()
	return k
}

func (k *clock) stop() {
	k.list.Stop()
	k.retry.Stop()
	k.deadline.Stop()
}

// listWithin brings the next reading forward. In a storm of changes it is not put off again and again.
func (k *clock) listWithin(delay time.Duration) {
	if due := time.Now().Add(delay); due.Before(k.due) {
		k.due = due
		k.list.Reset(delay)
	}
}

func (k *clock) listed(calm bool) {
	period := listPeriod
	if calm {
		period = calmPeriod
	}
	k.due = time.Now().Add(period)
	k.list.Reset(period)
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
