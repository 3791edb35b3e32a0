// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-iptables/iptables"

	"korat/api"
	"korat/felix/reconcile"
	"korat/policy/chain"
)

// Chains are ours of the packet filter: those whose names begin with "cali-", and of the rules in the kernel's own
// chains those that carry an ID of ours or lead to a chain of ours. Rules are compared by their IDs; a Read gives
// nothing else of them. A Chains belongs to one goroutine.
type Chains struct {
	h      *Handle
	sides  []*side
	events *chainEvents
	// version is another one whenever something else is held by our knowledge.
	version uint64
}

// trust is how long the kernel's notices are believed to tell of every change. After that all is read once more.
const trust = 10 * time.Minute

// Chains gives the table of one backend. What it starts is ended by Close.
func (h *Handle) Chains(c ChainsConfig) (*Chains, error) {
	if err := usable(c.Backend); err != nil {
		return nil, err
	}
	c = c.filled()
	t := &Chains{h: h, version: 1}
	if c.Backend == NFT {
		var err error
		if t.events, err = h.listenChains(); err != nil {
			return nil, err
		}
	}
	for _, f := range api.Families() {
		t.sides = append(t.sides, &side{h: h, config: c, family: f, events: t.events, refused: map[place]refused{}})
	}
	return t, nil
}

// Close ends the programs that write. Nothing in the kernel changes.
func (c *Chains) Close() error {
	var errs []error
	for _, s := range c.sides {
		errs = append(errs, s.stop())
	}
	if c.events != nil {
		errs = append(errs, c.events.close())
	}
	return errors.Join(errs...)
}

// Read implements reconcile.Table.
func (c *Chains) Read(ctx context.Context) (map[chain.Key]*chain.Chain, error) {
	have, _, err := c.ReadChanged(ctx, 0)
	return have, err
}

// ReadChanged implements reconcile.DigestReader. Of the nft backend it reads what the kernel told to have changed; of
// the legacy one, which tells nothing, it reads all.
func (c *Chains) ReadChanged(ctx context.Context, since uint64) (map[chain.Key]*chain.Chain, uint64, error) {
	err := each(c.sides, func(s *side) error { return errors.Join(s.mended(ctx), s.refresh(ctx, true)) })
	if err != nil {
		return nil, 0, err
	}
	c.renew()
	if since == c.version {
		return nil, since, nil
	}
	have := map[chain.Key]*chain.Chain{}
	for _, s := range c.sides {
		for table, chains := range s.have {
			for name, h := range chains {
				have[chain.Key{Family: s.family, Table: table, Name: name}] = h.chain
			}
		}
	}
	return have, c.version, nil
}

// renew gives another version to what changed.
func (c *Chains) renew() {
	for _, s := range c.sides {
		if s.changed {
			c.version++
			s.changed = false
		}
	}
}

// each does a thing for sides, at the same time. One alone has no goroutine of its own, as starting one wakes a thread.
func each(sides []*side, do func(*side) error) error {
	if len(sides) == 1 {
		return do(sides[0])
	}
	errs := make([]error, len(sides))
	var all sync.WaitGroup
	for i, s := range sides {
		all.Go(func() { errs[i] = do(s) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// Write implements reconcile.Table. What changes in one table of a family is one transaction. A chain that iptables or
// the kernel refuses is replaced by one that drops everything, and is named in the error with the reason; all others are
// written. It is tried again some time later.
func (c *Chains) Write(ctx context.Context, d reconcile.Diff[chain.Key, *chain.Chain]) error {
	if d.Len() == 0 {
		return nil
	}
	var failed reconcile.WriteError[chain.Key]
	var mu sync.Mutex
	err := each(c.touched(d), func(s *side) error {
		return s.write(ctx, d, func(k chain.Key, err error) {
			mu.Lock()
			defer mu.Unlock()
			failed.Fail(k, fmt.Errorf("%s: %w", k, err))
		})
	})
	c.renew()
	if err != nil {
		return errors.Join(err, failed.Err())
	}
	return failed.Err()
}

// touched are the sides of which a Diff has something.
func (c *Chains) touched(d reconcile.Diff[chain.Key, *chain.Chain]) []*side {
	families := map[api.Family]bool{}
	for k := range d.Set {
		families[k.Family] = true
	}
	for k := range d.Delete {
		families[k.Family] = true
	}
	return slices.DeleteFunc(slices.Clone(c.sides), func(s *side) bool { return !families[s.family] })
}

// Distrust has Write close the chains that look into one of these sets, which are not as they must be, until it is
// called without them: what a set lacks may be what a rule forbids. Write has to be given these chains again each time.
func (c *Chains) Distrust(sets map[string]error) {
	for _, s := range c.sides {
		s.distrusted = sets
	}
}

// RuleCounter is what one rule has seen.
type RuleCounter struct {
	// ID is empty of a rule that is not ours.
	ID             string
	Packets, Bytes uint64
}

// Counters gives the counters of a chain's rules, in their order.
func (c *Chains) Counters(ctx context.Context, k chain.Key) ([]RuleCounter, error) {
	for _, s := range c.sides {
		if s.family == k.Family {
			return s.counters(ctx, k)
		}
	}
	return nil, fmt.Errorf("counters of %s: no such family", k)
}

// side is one family's part of Chains.
type side struct {
	h      *Handle
	config ChainsConfig
	family api.Family
	events *chainEvents
	// tool is for single commands; nil before the first.
	tool    *iptables.IPTables
	restore *restore
	// have is what the kernel holds by our knowledge, nil while we have none. It was read as a whole at that time.
	have heldTables
	read time.Time
	// changed says that something else is held than before.
	changed bool
	refused map[place]refused
	// distrusted are sets that are not as they must be.
	distrusted map[string]error
	// broken says that the last transaction failed for what is no transaction's fault.
	broken bool
}

// place names a chain of one family.
type place struct {
	table chain.Table
	name  string
}

// refresh brings have up to date: all of it, or what others have changed. thorough says that where nothing tells of
// changes all must be read.
func (s *side) refresh(ctx context.Context, thorough bool) error {
	if s.have == nil || thorough && (s.events == nil || time.Since(s.read) > trust) {
		return s.readAll(ctx)
	}
	if s.events == nil {
		return nil
	}
	doubt, all := s.events.take(s.family)
	if all || len(doubt) > fewChains {
		return s.readAll(ctx)
	}
	for _, p := range doubt {
		if err := s.readChain(ctx, p); err != nil {
			s.have = nil
			return err
		}
	}
	return nil
}

// fewChains are read one by one rather than all together.
const fewChains = 4

// readAll reads all tables.
func (s *side) readAll(ctx context.Context) error {
	before := s.have
	s.have = nil
	if s.events != nil {
		s.events.take(s.family) // what happens from here on stays in doubt
	}
	r, at := newReader(), time.Now()
	if err := s.h.save(ctx, s.config, s.family, r.line); err != nil {
		return fmt.Errorf("read %s chains: %w", s.family, err)
	}
	s.have, s.read = r.finish(), at
	s.changed = s.changed || before == nil || !before.same(s.have)
	return nil
}

// readChain reads one chain.
func (s *side) readChain(ctx context.Context, p place) error {
	lines, found, err := s.list(p, (*iptables.IPTables).List)
	if err != nil {
		return fmt.Errorf("read %s: %w", s.key(p), err)
	}
	if !found { // gone, or not as iptables makes chains
		return s.readAll(ctx)
	}
	r := newReader()
	for _, line := range lines {
		if name, isNew := cutCommand(line); isNew {
			line = ":" + name
		}
		r.line(p.table, line)
	}
	now, before := r.finish()[p.table][p.name], s.have[p.table][p.name]
	if now == nil {
		s.have.remove(p.table, p.name)
	} else {
		s.have.set(p.table, p.name, now)
	}
	s.changed = s.changed || (now == nil) != (before == nil) || now != nil && !now.same(before)
	return nil
}

func (s *side) key(p place) chain.Key {
	return chain.Key{Family: s.family, Table: p.table, Name: p.name}
}
