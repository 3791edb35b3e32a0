// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"korat/test/bench/guest"
	"korat/test/lab"
)

const (
	// propagationRounds is how often a block comes and goes, for each way.
	propagationRounds = 150
	// propagationRest is given to everybody after a block has gone.
	propagationRest = 20 * time.Millisecond
)

// way is one way in which a host's new block gets into the next host's kernel.
type way struct {
	prefix netip.Prefix
	// set has the block come or go and says when that began.
	set func(ctx context.Context, present bool) (time.Duration, error)
	// next is where the route appears.
	next  *guest.Guest
	times Series
}

// propagation compares how fast a new block becomes a route elsewhere with BIRD, driven as Calico does.
func propagation(ctx context.Context, s *Suite) (rows []Row, err error) {
	c, err := s.cluster(ctx, "propagation", 2)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	birds, err := startBirds(ctx, c)
	if err != nil {
		return nil, err
	}
	a, b := c.Agents[0], c.Agents[1]
	guests, err := s.guests(ctx, a.Host, b.Host, birds[0], birds[1])
	if err != nil {
		return nil, err
	}
	w, err := newWays(ctx, guests, a.Host)
	if err != nil {
		return nil, err
	}
	s.say("propagation: %d blocks each way", propagationRounds)
	if err := rounds(ctx, []*way{w.store, w.bird}, a.PID, b.PID); err != nil {
		return nil, err
	}
	// The agent would at once take back what its speaker says without it, so it stands still.
	if err := b.Signal(syscall.SIGSTOP); err != nil {
		return nil, err
	}
	if err := rounds(ctx, []*way{w.speaker}, a.PID); err != nil {
		return nil, err
	}
	if err := b.Signal(syscall.SIGCONT); err != nil {
		return nil, err
	}
	p99 := func(s Series) float64 { return s.Quantile(0.99) }
	return []Row{
		Medians("new block → route at the next host, p50, to BIRD", w.store.times, w.bird.times, 0.3),
		Below("  the same by itself", "ms", w.store.times.Quantile(0.5), 10),
		Against("new block → route at the next host, p99, to BIRD", "ms", p99(w.store.times), p99(w.bird.times), 1),
		Medians("  p50 from the speaker's AddPath on", w.speaker.times, w.bird.times, 0),
		Against("  p99 from the speaker's AddPath on", "ms", p99(w.speaker.times), p99(w.bird.times), 0),
	}, nil
}

// rounds goes all ways in turns. The first round does not count.
func rounds(ctx context.Context, ways []*way, pids ...int) error {
	for i := range propagationRounds + 1 {
		for _, w := range ways {
			if err := w.round(ctx, i > 0); err != nil {
				return err
			}
			if err := quiet(ctx, propagationRest, pids...); err != nil {
				return err
			}
		}
	}
	return nil
}

// round has the block come and go once.
func (w *way) round(ctx context.Context, counts bool) error {
	for _, present := range []bool{true, false} {
		from, err := w.set(ctx, present)
		if err != nil {
			return err
		}
		var to time.Duration
		if err := w.next.Call(ctx, "Monitor.Await", guest.Awaited{Prefix: w.prefix, Gone: !present, After: from}, &to); err != nil {
			return err
		}
		if present && counts {
			w.times.Add(to - from)
		}
	}
	return nil
}

// ways are all three: from the datastore on, from the speaker on, and BIRD's.
type ways struct{ store, speaker, bird *way }

// newWays sets them up. The guests are on our two hosts and BIRD's two.
func newWays(ctx context.Context, guests []*guest.Guest, first *lab.Host) (ways, error) {
	a, b, c, d := guests[0], guests[1], guests[2], guests[3]
	store := &way{prefix: netip.MustParsePrefix("172.18.250.0/24"), next: b}
	store.set = func(ctx context.Context, present bool) (at time.Duration, err error) {
		err = a.Call(ctx, "Claim.Set", present, &at)
		return at, err
	}
	// The other way round, as the first host's agent is the datastore as well.
	speaker := &way{prefix: netip.MustParsePrefix("172.17.251.0/24"), next: a}
	speaker.set = func(ctx context.Context, present bool) (at time.Duration, err error) {
		err = b.Call(ctx, "Speaker.Set", guest.Originated{Prefix: speaker.prefix, Present: present}, &at)
		return at, err
	}
	bird := &way{prefix: netip.MustParsePrefix("172.17.252.0/24"), next: d}
	bird.set = func(ctx context.Context, present bool) (at time.Duration, err error) {
		cfg := guest.BirdConfig{File: birdFile, Socket: birdSocket, Text: birdText(birdHosts()[0], birdHosts()[1])}
		if present {
			cfg.Text = birdText(birdHosts()[0], birdHosts()[1], bird.prefix)
		}
		err = c.Call(ctx, "Bird.Configure", cfg, &at)
		return at, err
	}
	endpoint := fmt.Sprintf("https://%s:2379", first.Address())
	return ways{store, speaker, bird}, errors.Join(
		a.Call(ctx, "Monitor.Begin", guest.Nothing{}, nil),
		b.Call(ctx, "Monitor.Begin", guest.Nothing{}, nil),
		d.Call(ctx, "Monitor.Begin", guest.Nothing{}, nil),
		a.Call(ctx, "Claim.Prepare", guest.ClaimConfig{Endpoint: endpoint, Node: first.Name, Block: store.prefix}, nil),
		b.Call(ctx, "Speaker.Dial", speakerSocket, nil),
	)
}

// speakerSocket is where an agent's own speaker listens.
const speakerSocket = "/run/korat/speaker.sock"
