// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"korat/api"
)

// wire is the host's end of a pod's interface.
type wire struct {
	// have is its group in the kernel, want the one that it is to have.
	have, want uint32
	// number is that of the class of its endpoint, and to where that leads; both are zero if there is no endpoint.
	number uint32
	to     lead
}

// class is what has one number. It goes by what the endpoints' policies and profiles are called, and so is the same on the
// next start, and never comes to mean others.
type class struct {
	// wished counts where the endpoints lead that are to have the number, and worn where those do that have it in the
	// kernel, who are its wearers.
	wished, worn tally
	wearers      map[string]struct{}
	// to is where the number leads, if it leads anywhere.
	to lead
	// named says that its endpoints can't go by the number.
	named bool
}

// SetGroup says which link group an interface has in the kernel, whoever gave it: 0 if it has none, or if there is no such
// interface. It must be told before the first Update, and of each change before the Update that comes next: what leads to
// an endpoint follows the group that its interface has.
func (c *Compiler) SetGroup(name string, number uint32) {
	d := c.dispatch
	if d.told[name] == number {
		return
	}
	if d.told[name] = number; number == 0 {
		delete(d.told, name)
	}
	d.touched[name] = struct{}{}
}

// Group gives the link group that an interface is to have as of the last Update, once the chains of that Update are in the
// kernel: 0 if none. Until it has the group, packets of one that has no other are dropped, and those of one that has go
// where they should.
func (c *Compiler) Group(name string) uint32 {
	if w := c.dispatch.wires[name]; w != nil {
		return w.want
	}
	return 0
}

// rewire looks at the interfaces that were touched, and gives those whose way may be another: these, and those of classes
// that have come to lead elsewhere.
func (c *Compiler) rewire() map[string]struct{} {
	d := c.dispatch
	look, unsettled := d.touched, map[uint32]struct{}{}
	d.touched = map[string]struct{}{}
	for name := range look {
		w := d.wires[name]
		if w == nil {
			w = &wire{}
			d.wires[name] = w
		}
		d.count(name, w, -1, unsettled)
		before := w.to
		w.have, w.number, w.to = 0, 0, lead{}
		if c.options.ofPods(name) {
			w.have = d.told[name]
		}
		if l := d.endpoint(name); l != nil && l.group != nil {
			w.number, w.to = l.group.number, l.group.lead()
			if before != (lead{}) && before != w.to {
				c.todo.affected.local(l)
			}
		}
		d.count(name, w, 1, unsettled)
	}
	for number := range unsettled {
		d.settle(number, c.options.Groups, look)
	}
	return look
}

// count counts an interface in its classes, or no more.
func (d *dispatch) count(name string, w *wire, by int, unsettled map[uint32]struct{}) {
	if w.number != 0 {
		d.class(w.number).wished.add(w.to, by)
		unsettled[w.number] = struct{}{}
	}
	if w.have == 0 {
		return
	}
	cl := d.class(w.have)
	unsettled[w.have] = struct{}{}
	if w.to != (lead{}) {
		cl.worn.add(w.to, by)
	}
	if by > 0 {
		cl.wearers[name] = struct{}{}
	} else {
		delete(cl.wearers, name)
	}
}

func (d *dispatch) class(number uint32) *class {
	cl := d.classes[number]
	if cl == nil {
		cl = &class{wished: tally{}, worn: tally{}, wearers: map[string]struct{}{}}
		d.classes[number] = cl
	}
	return cl
}

// settle finds where a number leads, and adds the interfaces for which that makes a difference to those to look at.
func (d *dispatch) settle(number uint32, groups bool, look map[string]struct{}) {
	cl := d.classes[number]
	to, named := cl.leads()
	if !groups {
		to = lead{}
	}
	if to != cl.to {
		for name := range cl.wearers {
			look[name] = struct{}{}
		}
	}
	if named != cl.named {
		for name, w := range d.wires {
			if w.number == number {
				look[name] = struct{}{}
			}
		}
	}
	cl.to, cl.named = to, named
	if to == (lead{}) {
		d.groups.remove(written(number))
	} else {
		d.groups.set(written(number), to)
	}
	if len(cl.wished) == 0 && len(cl.wearers) == 0 {
		delete(d.classes, number)
	}
}

// leads gives where the number leads: to where its endpoints do. If they lead to several places, as two classes have come
// to the same number, they go by their names. Without endpoints it is a number of earlier, and leads to where those do that
// have it still, if that is one place: policies that are other ones for all of a class change no more than the class's
// rule, and the interfaces get their new group at leisure.
func (cl *class) leads() (to lead, named bool) {
	all := cl.wished
	if len(all) == 0 {
		all = cl.worn
	} else if len(all) > 1 {
		return lead{}, true
	}
	if len(all) != 1 {
		return lead{}, false
	}
	for to = range all {
	}
	return to, false
}

// route makes packets of an interface go to its endpoint, and to nothing if there is none: by its name, unless its group
// leads there. While it has none, as that of a pod that has just come, they are dropped.
func (d *dispatch) route(name string, groups bool) {
	w := d.wires[name]
	want, named := w.number, false
	if cl := d.classes[w.number]; cl != nil && (cl.named || !groups) {
		want, named = 0, true
	}
	if cl := d.classes[w.have]; cl != nil && cl.to != w.to {
		named = true
	}
	if named {
		d.names.set(name, w.to)
	} else {
		d.names.remove(name)
	}
	if want != w.want {
		w.want = want
		d.regrouped = append(d.regrouped, name)
	}
	if w.have == 0 && w.to == (lead{}) {
		delete(d.wires, name)
	}
}

// tally counts places.
type tally map[lead]int

func (t tally) add(to lead, by int) {
	if t[to] += by; t[to] == 0 {
		delete(t, to)
	}
}

// lead gives where the group's endpoints, which are all pods', lead to.
func (g *group) lead() lead {
	var to lead
	for at, sh := range g.chains {
		to[at.number()] = sh.key.Name
	}
	return to
}

// identify gives the number of the group's class. Of profiles only those have a part in it that may decide: so that pods
// of many namespaces without rules of their own are of one class. Groups of one class have the same chains.
func (g *group) identify(o Options) uint32 {
	var text []byte
	add := func(sort byte, name string) {
		text = append(text, sort)
		text = binary.BigEndian.AppendUint32(text, uint32(len(name)))
		text = append(text, name...)
	}
	for _, s := range g.policies {
		add('p', s.id.String())
	}
	for _, s := range g.profiles {
		if s.every(o, func(l *list) bool { return l.decides == api.Allow }) {
			add('a', "")
			break
		}
		if !s.every(o, func(l *list) bool { return l.empty || l.decides == api.Pass }) {
			add('r', s.id.Name)
		}
	}
	sum := sha256.Sum256(text)
	// 0 is the group of interfaces that have none, and ip(8) takes no number of more than 31 bits.
	return max(binary.BigEndian.Uint32(sum[:])>>1, 1)
}

// every says whether something is true of all lists of a source that are in use.
func (s *source) every(o Options, is func(*list) bool) bool {
	for at := range o.slots() {
		if !is(s.lists[at]) {
			return false
		}
	}
	return true
}

// takeRegrouped gives the interfaces whose wanted groups have changed, in order.
func (d *dispatch) takeRegrouped() []string {
	names := d.regrouped
	d.regrouped = nil
	slices.Sort(names)
	return names
}
