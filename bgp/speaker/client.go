// SPDX-License-Identifier: Apache-2.0

// Package speaker makes the speaker process do what a Plan says and reports what it learned. Client
// talks GoBGP's gRPC API over the process's Unix socket; Supervisor keeps the process alive. Nobody
// else uses GoBGP. Open client.go first; session.go is one connection's life.
package speaker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"sync"
	"time"

	gobgp "github.com/osrg/gobgp/v3/api"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"korat/api/wake"
	"korat/bgp"
	"korat/bgp/speaker/status"
)

const (
	// minBackoff and maxBackoff bound the time between attempts to reach the speaker.
	minBackoff = 50 * time.Millisecond
	maxBackoff = time.Second
	// startPatience is how long a speaker that is being started may stay away without a warning.
	startPatience = 3 * time.Second
	// maxMessage is the largest message that is accepted from the speaker. It is root's own process;
	// gRPC's default of 4 MiB is for strangers.
	maxMessage = 1 << 30
	// maxCrashes is how often a neighbour's messages may crash the speaker: once may be chance, and a
	// session that is held down costs its routes.
	maxCrashes = 1
)

// Config is what a Client is made from.
type Config struct {
	// Socket is the speaker's Unix socket, as an absolute path.
	Socket string
	// StatusFile is the file that the speaker process writes the sessions' history to.
	StatusFile string
	Log        *slog.Logger
}

// Client keeps the speaker as wanted and keeps a picture of what it learned.
type Client struct {
	cfg   Config
	table *table
	wake  wake.Signal
	// wanted tells the connection of a new wish.
	wanted wake.Signal

	mu sync.Mutex
	// wish is what is wanted, and allowed the same without the suspects.
	wish, allowed wish
	// suspects are the neighbours that get no session, with the reason.
	suspects map[netip.Addr]string
	err      error
	logged   string

	// instance is the connection goroutine's alone.
	instance instance
}

// wish is what Want was last called with.
type wish struct {
	plan       bgp.Plan
	restarting bool
}

// instance is one life of the speaker process, as far as this client saw it.
type instance struct {
	// pid tells two lives apart; 0 if the process did not say.
	pid int
	// seen is when this client first met it: the restart timer counts from here.
	seen time.Time
	// spoke says that this client gave a plan to it or to an earlier one.
	spoke bool
}

// New allocates a client; Run makes it work.
func New(cfg Config) *Client {
	return &Client{cfg: cfg, table: newTable(), wake: wake.New(), wanted: wake.New()}
}

// Want says what the speaker should be doing from now on. It never waits; of several wishes in a
// row only the last counts. The plan is kept and must not be changed. restarting says that the
// kernel still forwards as an earlier life left it: sessions of a freshly started speaker then ask the
// neighbours to go on forwarding to us meanwhile (RFC 4724, 4.1). So do those of every further speaker. A plan with AS 0 is none:
// the speaker is left as it is.
func (c *Client) Want(plan bgp.Plan, restarting bool) {
	c.mu.Lock()
	c.wish = wish{plan, restarting}
	c.allowed = c.wish.without(c.suspects)
	c.mu.Unlock()
	c.table.want(plan.Peers)
	c.wanted.Poke()
}

// without leaves peers out.
func (w wish) without(suspects map[netip.Addr]string) wish {
	if len(suspects) > 0 {
		w.plan.Peers = maps.Clone(w.plan.Peers)
		maps.DeleteFunc(w.plan.Peers, func(addr netip.Addr, _ bgp.Peer) bool { return suspects[addr] != "" })
	}
	return w
}

// wishNow gives what is wanted, less the suspects: these must not crash the speaker again before
// there is a plan without them.
func (c *Client) wishNow() wish {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.allowed
}

// Suspects gives the neighbours that crashed the speaker more than once, with the reason. They get no
// session: each crash costs all the others. The speaker process counts, in a file that outlives it.
func (c *Client) Suspects() map[netip.Addr]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.suspects)
}

// judge reads how often whose messages crashed the speaker.
func (c *Client) judge() {
	crashes, err := status.ReadCrashes(c.cfg.StatusFile)
	if err != nil {
		c.cfg.Log.Warn("suspects unknown", "error", err)
		return
	}
	suspects := map[netip.Addr]string{}
	for peer, n := range crashes.Peers {
		if n > maxCrashes {
			suspects[peer] = fmt.Sprintf("its messages crashed the speaker %d times; to try again delete %s", n, status.CrashesPath(c.cfg.StatusFile))
		}
	}
	c.mu.Lock()
	before := c.suspects
	c.suspects, c.allowed = suspects, c.wish.without(suspects)
	c.mu.Unlock()
	if maps.Equal(suspects, before) {
		return
	}
	for peer := range suspects {
		if before[peer] == "" {
			c.cfg.Log.Error("peer is held down", "peer", peer, "stack", status.LastCrashPath(c.cfg.StatusFile))
		}
	}
	for peer := range before {
		if suspects[peer] == "" {
			c.cfg.Log.Info("peer is no longer held down", "peer", peer)
		}
	}
	c.wanted.Poke()
	c.wake.Poke()
}

// RIB gives what the speaker has learned. It is cheap when nothing changed since the last call.
func (c *Client) RIB() bgp.RIB { return c.table.rib() }

// Wake is poked after RIB, Suspects or Err has changed.
func (c *Client) Wake() <-chan struct{} { return c.wake }

// Err says why the speaker is not doing all that was wanted, or is nil.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// fail remembers why the speaker is not as wanted, nil for that it is, and logs it once. A quiet
// one is not worth a log line yet.
func (c *Client) fail(err error, quiet bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if fmt.Sprint(c.err) != fmt.Sprint(err) {
		c.wake.Poke()
	}
	c.err = err
	switch {
	case err == nil && c.logged != "":
		c.logged = ""
		c.cfg.Log.Info("speaker is as wanted again")
	case err != nil && !quiet && err.Error() != c.logged:
		c.logged = err.Error()
		c.cfg.Log.Warn("speaker is not as wanted", "error", err)
	}
}

// Run connects and reconnects until ctx is done. The speaker stays as it is then.
func (c *Client) Run(ctx context.Context) error {
	backoff, since := minBackoff, time.Now()
	for {
		served, err := c.connect(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, errGlobal) {
			continue // the speaker has to start over with new global settings: a new connection's job
		}
		if served {
			backoff, since = minBackoff, time.Now()
		}
		if c.table.lost() {
			c.wake.Poke()
		}
		c.fail(err, !served && time.Since(since) < startPatience)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// connect serves one connection; served says whether it got as far as the plan.
func (c *Client) connect(ctx context.Context) (served bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := grpc.NewClient("unix://"+c.cfg.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
	if err != nil {
		return false, fmt.Errorf("connect to speaker: %w", err)
	}
	defer func() { _ = conn.Close() }()
	s := newSession(c, gobgp.NewGobgpApiClient(conn))
	if err := s.start(ctx); err != nil {
		return false, err
	}
	return true, s.serve(ctx)
}
