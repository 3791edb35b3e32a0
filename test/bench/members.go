// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"

	"korat/test/bench/guest"
	"korat/test/lab"
)

// membersChanges are made to the index.
const membersChanges = 3000

// members measures the index of who is in which set by itself, in a process that holds nothing else.
func members(ctx context.Context, s *Suite) (rows []Row, err error) {
	l, err := lab.New(ctx, s.config("members"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	h, err := l.Host(ctx, lab.HostConfig{Name: "members"})
	if err != nil {
		return nil, err
	}
	g, err := s.guest(ctx, h)
	if err != nil {
		return nil, err
	}
	size := guest.MembersSize{Endpoints: 100_000, Selectors: 10_000}
	s.say("members: %d endpoints and %d selectors", size.Endpoints, size.Selectors)
	if err := g.Call(ctx, "Members.Fill", size, nil); err != nil {
		return nil, err
	}
	rss, err := Memory("VmRSS", g.PID())
	if err != nil {
		return nil, err
	}
	s.say("members: %d changes", membersChanges)
	var cost guest.MembersCost
	if err := g.Call(ctx, "Members.Change", membersChanges, &cost); err != nil {
		return nil, err
	}
	peak, err := Memory("VmHWM", g.PID())
	name := "one change among 100,000 endpoints and 10,000 selectors"
	return []Row{
		Below("CPU of "+name, "ms", Milliseconds(cost.CPU)/membersChanges, 1),
		Below("  RSS before", "MB", rss, 400),
		Below("  members that come or go with it", "members", float64(cost.Members)/membersChanges, 0),
		Below("  peak, while it is filled or changed", "MB", peak, 0),
	}, err
}
