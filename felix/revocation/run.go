// SPDX-License-Identifier: Apache-2.0

package revocation

import (
	"context"
	"errors"
	"net/netip"

	"korat/felix/kernel"
	"korat/policy/compile"
)

// chunk is how many flows are held at once.
const chunk = 8192

// outcome is what came of a job.
type outcome struct {
	// cut counts the flows that were ended, left those of pods that are gone.
	cut, left int
	// first is one that was cut.
	first string
	// standing says that there are flows with the mark.
	standing bool
	// superseded says that the job was broken off, for policies have changed.
	superseded bool
}

// errSuperseded ends a job.
var errSuperseded = errors.New("policies have changed")

// run does a job.
func (r *Revoker) run(ctx context.Context, job *Job) (outcome, error) {
	w := &work{Revoker: r, judge: newJudge(job, &r.memory, r.Standing())}
	defer r.memory.forget()
	limited, cancel := context.WithCancel(ctx)
	defer cancel()
	var failed error
	err := r.tracking.Read(limited, w.addresses(), func(f kernel.Flow) {
		if failed != nil || !w.concerns(&f) {
			return
		}
		if w.flows = append(w.flows, f); len(w.flows) == chunk {
			if failed = w.chunk(ctx); failed != nil {
				cancel()
			}
		}
	})
	switch {
	case failed != nil:
		err = failed
	case err == nil:
		err = w.chunk(ctx)
	}
	if errors.Is(err, errSuperseded) {
		r.given++
		w.out.superseded = true
		return w.out, nil
	}
	r.given = 0
	return w.out, err
}

// work is a job in progress.
type work struct {
	*Revoker
	*judge
	out   outcome
	flows []kernel.Flow
}

// chunk judges the flows that are held, and does what follows.
func (w *work) chunk(ctx context.Context) error {
	if len(w.flows) == 0 {
		return nil
	}
	if !w.job.Affected.Empty() {
		w.know(w.flows)
	}
	now := w.out
	var remove, mark, unmark []kernel.Flow
	for i := range w.flows {
		f := &w.flows[i]
		marked := f.Mark&compile.RevokedMask == compile.RevokedMark
		switch v := w.verdict(f); {
		case v == gone:
			now.left++
			remove = append(remove, *f)
		case v == allowed && marked:
			unmark = append(unmark, *f)
		case v == allowed:
		case marked:
			now.standing = true
		case v == reversible:
			now.standing = true
			now.note(f)
			mark = append(mark, *f)
		default:
			now.note(f)
			remove = append(remove, *f)
		}
	}
	w.flows = w.flows[:0]
	if len(remove)+len(mark)+len(unmark) > 0 && w.given < patience && w.edition.Load() != w.job.edition {
		return errSuperseded
	}
	w.out = now
	return errors.Join(
		w.tracking.Mark(ctx, mark, compile.RevokedMark, compile.RevokedMask),
		w.tracking.Mark(ctx, unmark, 0, compile.RevokedMask),
		w.tracking.Delete(ctx, remove),
	)
}

// note counts a flow that is cut.
func (o *outcome) note(f *kernel.Flow) {
	o.cut++
	if o.first == "" {
		o.first = f.String()
	}
}

// addresses are those that flows are asked for by.
func (w *work) addresses() []netip.Addr {
	var all []netip.Addr
	whole := w.job.All || len(w.prefixes) > 0
	for addr, p := range w.pods {
		if _, is := w.job.Locals[p.ID]; is || whole || w.anew {
			all = append(all, addr)
		}
	}
	for addr := range w.own {
		if w.guarded && (whole || w.anew) && !addr.IsLoopback() {
			all = append(all, addr)
		}
	}
	for addr := range w.job.Gone {
		all = append(all, addr)
	}
	for addr := range w.peers {
		all = append(all, addr)
	}
	return all
}

// concerns says whether the job is about the flow.
func (w *work) concerns(f *kernel.Flow) bool {
	from, to := endsOf(f)
	if w.orphaned(from) || w.orphaned(to) {
		return true
	}
	if !w.policed(from) && !w.policed(to) {
		return false
	}
	_, begins := w.job.Locals[w.pods[from].ID]
	_, answers := w.job.Locals[w.pods[to].ID]
	return w.job.All || w.anew || begins || answers || w.changed(from) || w.changed(to)
}

// policed says whether the flows of an address are checked on this node.
func (w *work) policed(a netip.Addr) bool {
	if _, pod := w.pods[a]; pod {
		return true
	}
	_, own := w.own[a]
	return own && w.guarded
}

// endsOf gives who sends a flow's first packet and who receives it as the chains see them: after the address of a service
// has become that of a pod, and before the sender's becomes the node's.
func endsOf(f *kernel.Flow) (from, to netip.Addr) {
	return f.Original.Source, f.Reply.Source
}
