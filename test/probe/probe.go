// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"net/netip"
	"sync"
	"time"
)

// Protocol is "TCP", "UDP" or "SCTP".
type Protocol string

// The Protocols.
const (
	TCP  Protocol = "TCP"
	UDP  Protocol = "UDP"
	SCTP Protocol = "SCTP"
)

// Question is whether something can be reached.
type Question struct {
	From *Place
	To   netip.AddrPort
	Protocol
	// Expected answers are waited for longer.
	Expected bool
	// Reached is the answer.
	Reached bool
}

// Patience says how long answers are waited for.
type Patience struct {
	// Expected bounds the time until all expected answers are there.
	Expected time.Duration
	// Others is how long other ones are waited for after that. It should be long against what a busy machine takes to
	// answer: what comes later is taken for none.
	Others time.Duration
}

// Ask asks all questions at the same time, and fills in the answers.
func Ask(questions []*Question, p Patience) error {
	byPlace := map[*Place][]*Question{}
	for _, q := range questions {
		byPlace[q.From] = append(byPlace[q.From], q)
	}
	var rounds []*round
	for place, own := range byPlace {
		rounds = append(rounds, newRound(place, own))
	}
	defer func() {
		for _, r := range rounds {
			r.close()
		}
	}()
	if err := each(rounds, (*round).send); err != nil {
		return err
	}
	// Nobody's time runs before all have what they expect: the answers of one are the work of the others.
	deadline := time.Now().Add(p.Expected)
	if err := each(rounds, func(r *round) error { return r.wait(deadline, r.expecting) }); err != nil {
		return err
	}
	deadline = time.Now().Add(p.Others)
	return each(rounds, func(r *round) error { return r.wait(deadline, r.waiting) })
}

// each does something for all rounds at the same time.
func each(rounds []*round, do func(*round) error) error {
	errs := make([]error, len(rounds))
	var all sync.WaitGroup
	for i, r := range rounds {
		all.Go(func() { errs[i] = do(r) })
	}
	all.Wait()
	return errors.Join(errs...)
}
