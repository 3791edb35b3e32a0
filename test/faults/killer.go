// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"korat/test/lab"
)

// kill says what is to be killed, and when.
type kill struct {
	// after so many calls of the plugin.
	after int
	what  string
	host  *lab.Host
	// down is how long the datastore stays away.
	down time.Duration
}

// maxDown bounds how long the datastore is away after a kill.
const maxDown = 2 * time.Second

// killer kills what a plan says while the plugin is called.
type killer struct {
	site *Site

	mu    sync.Mutex
	calls int
	plan  []kill
	due   chan kill
	done  map[string]int
}

// newKiller plans some kills of each kind within so many calls. Where agents and speakers are killed is given.
func newKiller(s *Site, r *rand.Rand, where []*lab.Host, times map[string]int, calls int) *killer {
	k := &killer{site: s, done: map[string]int{}}
	for _, what := range []string{"agent", "speaker", "etcd"} {
		for range times[what] {
			k.plan = append(k.plan, kill{
				after: 1 + r.IntN(calls), what: what, host: where[r.IntN(len(where))], down: time.Duration(r.Int64N(int64(maxDown))),
			})
		}
	}
	slices.SortFunc(k.plan, func(a, b kill) int { return cmp.Compare(a.after, b.after) })
	k.due = make(chan kill, len(k.plan))
	if len(k.plan) == 0 {
		close(k.due)
	}
	return k
}

// step counts a call.
func (k *killer) step() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls++
	for len(k.plan) > 0 && k.plan[0].after <= k.calls {
		k.due <- k.plan[0]
		k.plan = k.plan[1:]
		if len(k.plan) == 0 {
			close(k.due)
		}
	}
}

// run kills, one after the other, until the plan is done or ctx ends.
func (k *killer) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case next, more := <-k.due:
			if !more {
				return nil
			}
			if err := k.kill(ctx, next); err != nil {
				return fmt.Errorf("kill %s of %s: %w", next.what, next.host.Name, err)
			}
			k.done[next.what]++
		}
	}
}

func (k *killer) kill(ctx context.Context, next kill) error {
	switch next.what {
	case "agent":
		return k.site.RestartAgent(next.host)
	case "speaker":
		return k.site.KillSpeaker(next.host)
	default:
		if err := k.site.KillDatastore(); err != nil {
			return err
		}
		pause(ctx, next.down)
		return k.site.StartDatastore()
	}
}
