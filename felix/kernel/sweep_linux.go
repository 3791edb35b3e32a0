// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"korat/policy/chain"
	"korat/policy/render"
)

// Sweep removes what is ours from the backend that is not used: packets pass both. It gives the number of chains
// that it removed. Where nothing has ever been, it leaves things so: no module is loaded and no table made.
func (c *Chains) Sweep(ctx context.Context) (removed int, err error) {
	var errs []error
	for _, s := range c.sides {
		n, err := s.sweep(ctx)
		removed += n
		if err != nil {
			errs = append(errs, fmt.Errorf("sweep %s chains of the other iptables backend: %w", s.family, err))
		}
	}
	return removed, errors.Join(errs...)
}

func (s *side) sweep(ctx context.Context) (removed int, err error) {
	other := &side{h: s.h, config: s.config, family: s.family}
	other.config.Backend = s.config.Backend.other()
	return other.clear(ctx)
}

// clear removes what is ours, without an eye to what is wanted.
func (s *side) clear(ctx context.Context) (removed int, err error) {
	if usable(s.config.Backend) != nil {
		return 0, nil
	}
	if s.config.Backend == Legacy {
		names, err := s.h.legacyTables(s.family)
		if err != nil || len(names) == 0 {
			return 0, err
		}
	}
	left := map[chain.Table]*remains{}
	err = s.h.save(ctx, s.config, s.family, func(t chain.Table, line string) {
		if left[t] == nil {
			left[t] = &remains{chains: map[string]render.Held{}}
		}
		left[t].line(line)
	})
	if err != nil {
		return 0, err
	}
	for _, t := range render.Tables() {
		if left[t] == nil {
			continue
		}
		removal, _ := left[t].removal(s, t).Transaction()
		if removal.Changes == 0 {
			continue
		}
		if err := s.commit(ctx, removal); err != nil {
			return removed, errors.Join(err, s.stop())
		}
		removed += len(left[t].chains)
	}
	return removed, s.stop()
}

// remains are what is ours in a table: whole chains, and rules in those of others.
type remains struct {
	chains map[string]render.Held
}

func (r *remains) line(line string) {
	name, rule := chainOf(line)
	switch {
	case strings.HasPrefix(name, chainPrefix):
		if !rule {
			r.chains[name] = render.Held{}
		}
	case rule && ours(line):
		r.chains[name] = render.Held{Lines: append(r.chains[name].Lines, line)}
	}
}

func (r *remains) removal(s *side, t chain.Table) render.Change {
	return render.Change{
		Family: s.family, Table: t, Have: r.chains, Delete: slices.Collect(maps.Keys(r.chains)),
	}
}
