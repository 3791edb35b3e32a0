// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"korat/felix/reconcile"
	"korat/policy/chain"
	"korat/policy/render"
)

// write makes the family's part of the changes. fail is told of the chains that could not be changed; an error leaves
// all in doubt.
func (s *side) write(ctx context.Context, d reconcile.Diff[chain.Key, *chain.Chain], fail func(chain.Key, error)) error {
	tables := s.changes(d, fail)
	if len(tables) == 0 {
		return nil
	}
	if err := s.refresh(ctx, false); err != nil {
		return err
	}
	var errs []error
	for _, c := range s.inOrder(tables) {
		if err := s.writeTable(ctx, c); err != nil {
			errs = append(errs, fmt.Errorf("%s table %s: %w", s.family, c.table, err))
			if err := s.readAll(ctx); err != nil { // the other tables may be well
				return errors.Join(append(errs, err)...)
			}
		}
		for name, err := range c.failed {
			fail(s.key(place{c.table, name}), err)
		}
	}
	return errors.Join(errs...)
}

// inOrder gives the changes in the order in which they are to be made, for the kernel makes those of one table at a time:
// first those of tables that packets meet early, but if such a table comes to have fewer chains it is the other way round, and after
// filter. What policies before connection tracking or DNAT have denied may be for those of the filter table to deny from
// now on, which so are there first.
func (s *side) inOrder(tables map[chain.Table]*change) []*change {
	var first, last []*change
	for _, table := range render.Tables() {
		c := tables[table]
		switch {
		case c == nil:
		case table != chain.Filter && s.growth(c) < 0:
			last = append(last, c)
		default:
			first = append(first, c)
		}
	}
	slices.Reverse(last)
	return append(first, last...)
}

// growth is how many more chains a table comes to have.
func (s *side) growth(c *change) int {
	n := 0
	for name := range c.set {
		if s.have[c.table][name] == nil {
			n++
		}
	}
	for name := range c.gone {
		if s.have[c.table][name] != nil {
			n--
		}
	}
	return n
}

// changes sorts the family's part of a Diff by tables.
func (s *side) changes(d reconcile.Diff[chain.Key, *chain.Chain], fail func(chain.Key, error)) map[chain.Table]*change {
	tables := map[chain.Table]*change{}
	add := func(k chain.Key, want *chain.Chain) {
		if k.Family != s.family {
			return
		}
		if !slices.Contains(render.Tables(), k.Table) {
			fail(k, fmt.Errorf("table %q: not one of %s", k.Table, render.Tables()))
			return
		}
		c := tables[k.Table]
		if c == nil {
			c = &change{table: k.Table, set: map[string]*chain.Chain{}, gone: map[string]bool{}, failed: map[string]error{}}
			tables[k.Table] = c
		}
		if want == nil {
			c.gone[k.Name] = true
		} else {
			c.set[k.Name] = want
		}
	}
	for k, want := range d.Set {
		add(k, want)
	}
	for k := range d.Delete {
		add(k, nil)
	}
	return tables
}

// change is what is to become of one table.
type change struct {
	table chain.Table
	// set and gone are what is wanted of chains; those of failed are replaced or left alone.
	set    map[string]*chain.Chain
	gone   map[string]bool
	failed map[string]error
	// checked says that what the table holds was read after it had refused something.
	checked bool
}

// transaction gives the text that makes the change.
func (s *side) transaction(c *change) render.Transaction {
	for {
		r := s.renderable(c)
		t, bad := r.Transaction()
		s.lost(c, r, bad)
		for name, err := range bad {
			if c.failed[name] != nil { // not even what stands for it can be written: its name is not possible
				delete(c.set, name)
			}
			s.refuse(c, name, err)
		}
		if len(bad) == 0 {
			return t
		}
	}
}

// renderable leaves out what is so already, and puts in the place of what failed what stands for it.
func (s *side) renderable(c *change) render.Change {
	r := render.Change{Family: s.family, Table: c.table, Have: map[string]render.Held{}, Set: map[string]*chain.Chain{}}
	for name, want := range c.set {
		have := s.have[c.table][name]
		if c.failed[name] != nil {
			want = s.standIn(c, name)
		}
		if want == nil || have != nil && want.Equal(have.chain) {
			continue
		}
		if r.Set[name] = want; have != nil {
			r.Have[name] = have.render(want)
		}
	}
	for name := range c.gone {
		if have := s.have[c.table][name]; have != nil && c.failed[name] == nil {
			r.Have[name], r.Delete = have.render(nil), append(r.Delete, name)
		}
	}
	return r
}

// lost adds to bad the chains that lead to one that won't be there.
func (s *side) lost(c *change, r render.Change, bad map[string]error) {
	for name, want := range r.Set {
		for target := range want.Uses {
			_, made := c.set[target]
			if !made && (s.have[c.table][target] == nil || slices.Contains(r.Delete, target)) {
				bad[name] = fmt.Errorf("leads to the chain %s, which does not exist", target)
			}
		}
	}
}

// writeTable makes a change, without what is refused of it.
func (s *side) writeTable(ctx context.Context, c *change) error {
	s.recall(c)
	for {
		t := s.transaction(c)
		if t.Changes == 0 {
			return nil
		}
		err := s.commit(ctx, t)
		if err == nil {
			s.remember(c)
			return nil
		}
		var no *refusal
		if !errors.As(err, &no) {
			return err
		}
		if err := s.isolate(ctx, c, t, no); err != nil {
			return err
		}
	}
}

// commit has the program do a transaction. After an error it is gone.
func (s *side) commit(ctx context.Context, t render.Transaction) error {
	s.h.writes.chains.Add(uint64(t.Changes))
	for again := true; ; again = false {
		if err := s.start(ctx); err != nil {
			s.broken = true
			return err
		}
		err := s.restore.do(ctx, t.Text, len(t.About), s.config.patience())
		if err != nil {
			s.drop()
		}
		var no *refusal
		s.broken = err != nil && !errors.As(err, &no)
		if !errors.Is(err, errGone) || !again {
			return err
		}
	}
}

// mended starts the program if what was wanted last failed for want of it. It may be that nothing is wanted now, and that all
// that is wanted next would fail again.
func (s *side) mended(ctx context.Context) error {
	if !s.broken {
		return nil
	}
	err := s.start(ctx)
	s.broken = err != nil
	return err
}

// start sees to it that the program runs. That it has ended between two transactions harms nobody.
func (s *side) start(ctx context.Context) error {
	if s.restore != nil && s.restore.running() {
		return nil
	}
	s.drop()
	r, err := s.h.startRestore(ctx, s.config, s.family)
	if err != nil {
		return err
	}
	s.restore = r
	if err := s.introduce(r); err != nil {
		s.drop()
		return err
	}
	return nil
}

// introduce tells who hears the kernel's notices that what the program does is ours.
func (s *side) introduce(r *restore) error {
	if s.events == nil {
		return nil
	}
	port, err := netfilterPort(r.process.Pid)
	if err != nil {
		return fmt.Errorf("find the netfilter socket of %s: %w", r.name, err)
	}
	s.events.own(r.name, port)
	return nil
}

// drop ends the program; the next transaction starts another.
func (s *side) drop() {
	_ = s.stop() // an error of it has been told by do, or its ending is nobody's business
}

// stop ends the program.
func (s *side) stop() error {
	if s.restore == nil {
		return nil
	}
	err := s.restore.close()
	if s.events != nil {
		s.events.own(s.restore.name, 0)
	}
	s.restore = nil
	return err
}

// remember notes what the table holds after a change.
func (s *side) remember(c *change) {
	s.changed = true
	r := s.renderable(c)
	for name, want := range r.Set {
		s.have.set(c.table, name, &held{chain: want, lines: s.linesOf(name, want)})
		if c.failed[name] == nil {
			delete(s.refused, place{c.table, name})
		}
	}
	for _, name := range r.Delete {
		s.have.remove(c.table, name)
	}
}

// linesOf gives our rules in one of the kernel's own chains as we write them.
func (s *side) linesOf(name string, c *chain.Chain) []string {
	if !(chain.Key{Name: name}).Own() {
		return nil
	}
	var lines []string
	for _, r := range slices.Concat(c.Rules, c.Last) {
		if text, err := render.RuleIn(name, r, s.family); err == nil {
			lines = append(lines, "-A "+name+" "+text)
		}
	}
	return lines
}
