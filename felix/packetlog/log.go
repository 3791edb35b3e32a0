// SPDX-License-Identifier: Apache-2.0

// Package packetlog tells of the packets that rules report: those that are denied, that a Log rule matches, and that a
// staged policy would decide on. The kernel is asked only while somebody follows; else its rules' reports cost next to
// nothing. Nothing is kept: who follows hears of what comes from then on, and if that is more than can be told, how many
// were not.
//
// Open log.go first (who follows), then read.go (what a report means).
package packetlog

import (
	"context"
	"errors"
	"sync"
	"time"

	"korat/api"
	"korat/felix/kernel"
)

const (
	// waiting is how many Entries wait for one follower.
	waiting = 1024
	// lossPeriod is how often a follower is told of what was lost.
	lossPeriod = time.Second
)

// Source is the kernel's packet log, or what a test has for it.
type Source interface {
	// C is closed at the end, of which Err tells.
	C() <-chan kernel.Report
	// Lost counts the reports that were dropped.
	Lost() uint64
	Err() error
	Close() error
}

// Cluster knows what reports are about. It is asked by one goroutine at a time.
type Cluster interface {
	// Edition is another one whenever what the IDs of reports stand for may have changed.
	Edition() uint64
	// Decided says what the ID of a report stands for; false if nobody knows any more.
	Decided(ctx context.Context, id string) (Decided, bool)
	Snapshot() api.Snapshot
}

// Log is the packet log of this node.
type Log struct {
	open    func() (Source, error)
	cluster Cluster

	mu sync.Mutex
	// session is what is open while somebody follows.
	session *session
}

// New allocates a Log of the source that open gives.
func New(open func() (Source, error), c Cluster) *Log { return &Log{open: open, cluster: c} }

// session is an open source, and who follows. The Log's mutex guards the latter, and what was lost.
type session struct {
	source    Source
	followers map[*follower]struct{}
	lost      uint64
	// cancel ends questions that are under way.
	cancel context.CancelFunc
}

// follower is who follows.
type follower struct {
	entries chan Entry
	// lost counts what there was no room for.
	lost uint64
	// failed tells why there is no more.
	failed chan error
}

// Follow gives each packet that is reported from now on to each, until ctx is done, or each gives an error.
func (l *Log) Follow(ctx context.Context, each func(Entry) error) error {
	f := &follower{entries: make(chan Entry, waiting), failed: make(chan error, 1)}
	s, err := l.join(f)
	if err != nil {
		return err
	}
	defer l.leave(s, f)
	tick := time.NewTicker(lossPeriod)
	defer tick.Stop()
	for {
		var e Entry
		select {
		case <-ctx.Done():
			return nil
		case err := <-f.failed:
			return err
		case e = <-f.entries:
		case now := <-tick.C:
			if e = (Entry{Time: now, Verdict: Lost, Lost: l.lossOf(s, f)}); e.Lost == 0 {
				continue
			}
		}
		if err := each(e); err != nil {
			return err
		}
	}
}

// join adds a follower, and opens the source for the first.
func (l *Log) join(f *follower) (*session, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session == nil {
		source, err := l.open()
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithCancel(context.Background())
		l.session = &session{source: source, followers: map[*follower]struct{}{}, cancel: cancel}
		go l.run(ctx, l.session)
	}
	l.session.followers[f] = struct{}{}
	return l.session, nil
}

// leave takes a follower away, and closes the source after the last.
func (l *Log) leave(s *session, f *follower) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if delete(s.followers, f); len(s.followers) == 0 {
		l.close(s)
	}
}

// close ends a session. The caller holds the mutex.
func (l *Log) close(s *session) {
	if l.session == s {
		l.session = nil
		s.cancel()
		_ = s.source.Close() // whatever it says, nobody hears it any more
	}
}

// run gives what is reported to who follows, until the source is closed.
func (l *Log) run(ctx context.Context, s *session) {
	r := newReader(l.cluster)
	for report := range s.source.C() {
		e := r.read(ctx, report)
		l.mu.Lock()
		for f := range s.followers {
			select {
			case f.entries <- e:
			default:
				f.lost++
			}
		}
		l.mu.Unlock()
	}
	err := s.source.Err()
	if err == nil {
		err = errors.New("the packet log was closed")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for f := range s.followers {
		f.failed <- err
	}
	l.close(s)
}

// lossOf gives how much a follower has lost since it was told last.
func (l *Log) lossOf(s *session, f *follower) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	lost := s.source.Lost()
	for other := range s.followers {
		other.lost += lost - s.lost
	}
	s.lost = lost
	n := f.lost
	f.lost = 0
	return n
}
