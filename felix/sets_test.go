// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"korat/felix/dataplane"
	"korat/felix/kernel"
	"korat/felix/reconcile"
	"korat/policy"
)

// fakeSets are the kernel's sets as a map.
type fakeSets struct {
	mu     sync.Mutex
	have   map[policy.SetKey]kernel.Members
	bad    map[policy.SetKey]error
	broken error
	reads  int
	// writes are what was written since the test looked.
	writes []kernel.SetChange
}

func (s *fakeSets) Read(context.Context) (map[policy.SetKey]kernel.Members, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	have := map[policy.SetKey]kernel.Members{}
	for key, members := range s.have {
		have[key] = maps.Clone(members)
	}
	return have, s.broken
}

func (s *fakeSets) Write(_ context.Context, changes []kernel.SetChange) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	s.writes = append(s.writes, changes...)
	var failed reconcile.WriteError[policy.SetKey]
	for _, c := range changes {
		if err := s.bad[c.Key]; err != nil {
			failed.Fail(c.Key, err)
			continue
		}
		if c.Destroy {
			delete(s.have, c.Key)
			continue
		}
		if s.have[c.Key] == nil || c.Replace {
			s.have[c.Key] = kernel.Members{}
		}
		for _, m := range c.Add {
			s.have[c.Key][m] = struct{}{}
		}
		for _, m := range c.Remove {
			delete(s.have[c.Key], m)
		}
	}
	return failed.Err()
}

// takeWrites gives what was written since the last call, one line for each set.
func (s *fakeSets) takeWrites() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var text strings.Builder
	for _, c := range s.writes {
		fmt.Fprintf(&text, "± set %v\n", c)
	}
	s.writes = nil
	return text.String()
}

// mishapSets are sets to whose writes something happens.
type mishapSets struct {
	*fakeSets
	mishap *mishap
}

// Write implements SetTable.
func (s mishapSets) Write(ctx context.Context, changes []kernel.SetChange) error {
	return s.mishap.do("kernel", func(half bool) error {
		if half {
			changes = changes[:(len(changes)+1)/2]
		}
		return s.fakeSets.Write(ctx, changes)
	})
}

// heldSets are sets that are wanted.
type heldSets map[policy.SetKey][]policy.Member

type setChange = dataplane.SetChange

// Sets implements dataplane.Sets.
func (h heldSets) Sets() iter.Seq[policy.SetKey] { return maps.Keys(h) }

// Members implements dataplane.Sets.
func (h heldSets) Members(key policy.SetKey) iter.Seq[policy.Member] { return slices.Values(h[key]) }

func filterOf(h heldSets, changed map[policy.SetKey]setChange) dataplane.Filter {
	return dataplane.Filter{Sets: h, ChangedSets: changed}
}
