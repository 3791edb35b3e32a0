// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"korat/felix/calc"
	"korat/felix/dataplane"
	"korat/felix/endpoint"
	"korat/felix/kernel"
	"korat/felix/reconcile"
)

// linksStep are the interfaces of pods. It is looked at before it is known what is wanted of it: which rules lead to a pod
// depends on the link group that its interface has. The groups are written after the rules.
type linksStep struct {
	*tableStep[string, dataplane.Link]
	// read says that all was read since the last apply.
	read bool
	// told are the interfaces with the groups that the packet filter was told: those in the kernel. It is nil before that.
	told map[string]dataplane.Link
	// last is what was wanted last.
	last map[string]dataplane.Link
	// unsure says that the last write failed, so that groups may be those that were wanted, or those of before.
	unsure bool
	// able says that rules match groups, and begun that they have not done so before.
	able, begun bool
}

// links gives the step.
func (a *Agent) links() *linksStep { return a.steps[linksAt].(*linksStep) }

// enable says whether rules match groups.
func (t *linksStep) enable(able bool) { t.able, t.begun = able, able && (t.begun || !t.able) }

// invalidate puts in doubt also what is not remembered: an interface that is nobody's may have a group.
func (t *linksStep) invalidate(n kernel.Notice) {
	t.tableStep.invalidate(n)
	for name := range n.Links {
		if strings.HasPrefix(name, endpoint.InterfacePrefix) {
			t.Doubt(name)
		}
	}
}

func (t *linksStep) apply(ctx context.Context, s dataplane.State) (reconcile.Result, error) {
	r, err := t.tableStep.apply(ctx, s)
	r.Read, t.read, t.unsure = r.Read || t.read, false, err != nil
	return r, err
}

// lookAtLinks tells the packet filter which groups interfaces have. Who detaches a pod removes its interface before, which
// need not have been heard of. If the kernel doesn't tell, the groups are what was told last, and the step finds the same
// error: unless we can't know what we have written ourselves. Rules for other groups would be nobody's policy.
func (a *Agent) lookAtLinks(ctx context.Context) error {
	t := a.links()
	if a.at.changed {
		attached := byInterface(a.at.endpoints)
		for name, l := range t.told {
			if _, there := attached[name]; l.Group != 0 && !there {
				t.Doubt(name)
			}
		}
	}
	have, read, err := t.Have(ctx)
	t.read = t.read || read
	if err != nil {
		if t.told == nil || t.unsure {
			return fmt.Errorf("step %s: %w", t.Name(), err)
		}
		return nil
	}
	t.tell(have, a.memos.filter)
	return nil
}

// tell tells the packet filter of the groups that are not as they were.
func (t *linksStep) tell(have map[string]dataplane.Link, f *calc.Filter) {
	if t.told != nil && maps.Equal(have, t.told) {
		return
	}
	for name, l := range have {
		if t.told[name].Group != l.Group {
			f.SetGroup(name, l.Group)
		}
	}
	for name := range t.told {
		if _, there := have[name]; !there {
			f.SetGroup(name, 0)
		}
	}
	t.told = maps.Clone(have)
}

// grouped gives what is wanted of interfaces with the groups that the packet filter asks for, and says whether that is
// not what it was.
func (t *linksStep) grouped(links map[string]dataplane.Link, f *calc.Filter) (want map[string]dataplane.Link, others bool) {
	if want = calc.Grouped(links, t.told, f.Group); maps.Equal(want, t.last) {
		return t.last, false
	}
	t.last = want
	return want, true
}

// regroup gives the links with the groups that are wanted, or those that they have.
func (t *linksStep) regroup(links map[string]dataplane.Link, wanted func(name string) bool) map[string]dataplane.Link {
	all := make(map[string]dataplane.Link, len(links))
	for name, l := range links {
		if !wanted(name) {
			l.Group = t.told[name].Group
		}
		all[name] = l
	}
	return all
}

// ahead says that interfaces have other groups by now than the rules were made for, so that there are some which nothing
// needs any more.
func (t *linksStep) ahead() bool {
	for name, l := range t.told {
		if want, is := t.last[name]; is && l.Group != 0 && l.Group != want.Group {
			return true
		}
	}
	return false
}

// enroll gives pods that are reached already, and have no group yet, theirs before rules lead from groups for the first
// time: those of an agent before did not.
func (a *Agent) enroll(ctx context.Context, state dataplane.State) error {
	t := a.links()
	if !t.begun {
		return nil
	}
	t.begun = false
	reached := map[string]bool{}
	for id := range a.at.guarded {
		name := a.at.endpoints[id].Interface
		reached[name] = t.told[name].Group == 0
	}
	links := t.regroup(state.Links, func(name string) bool { return reached[name] })
	if maps.Equal(links, t.regroup(links, func(string) bool { return false })) {
		return nil
	}
	state.Links = links
	err := a.applyStep(ctx, linksAt, state)
	for name := range reached {
		if l, wanted := links[name]; wanted {
			t.told[name] = l
			a.memos.filter.SetGroup(name, l.Group)
		}
	}
	return err
}
