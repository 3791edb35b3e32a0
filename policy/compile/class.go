// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"crypto/sha256"
	"encoding/binary"
	"iter"
	"slices"
	"strings"

	"korat/api"
)

// A group has a number for each direction: in the bits from egressBits on that of where what pods get leads to, below that of
// where what they send does. ip(8) takes no group of more than 31 bits.
const (
	egressBits  = 14
	ingressBits = 31 - egressBits
)

// number is that of one direction in a group. None is 0, which is in the group of interfaces that have none.
type number struct {
	direction api.PolicyType
	value     uint32
}

// numberIn gives the number of a direction in a group, somebody else's included.
func numberIn(group uint32, d api.PolicyType) number {
	shift, length := bits(d)
	return number{d, group >> shift & (1<<length - 1)}
}

// numbersIn gives the numbers of a group, somebody else's included.
func numbersIn(group uint32) iter.Seq[number] {
	return func(yield func(number) bool) {
		for _, d := range directions() {
			if n := numberIn(group, d); n.value != 0 && !yield(n) {
				return
			}
		}
	}
}

// wire is the host's end of a pod's interface.
type wire struct {
	// have is its group in the kernel, want the one that it is to have.
	have, want uint32
	// group is that of where its endpoint leads to; both are zero if there is no endpoint.
	group uint32
	to    lead
}

// class is what has one number in one direction: the number is a hash of the names of the chains that it leads to, and
// these of what they say. So it is the same on the next start, and never comes to mean anything else.
type class struct {
	// wished counts where the endpoints lead that are to have the number, and worn where those do that have it in the
	// kernel, who are its wearers.
	wished, worn tally
	wearers      map[string]struct{}
	// coming counts the interfaces that are to have the number and have another one in its direction still.
	coming int
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
	look, unsettled := d.touched, map[number]struct{}{}
	d.touched = map[string]struct{}{}
	for name := range look {
		w := d.wires[name]
		if w == nil {
			w = &wire{}
			d.wires[name] = w
		}
		d.count(name, w, -1, unsettled)
		before := w.to
		*w = wire{want: w.want}
		if c.options.ofPods(name) {
			w.have = d.told[name]
		}
		if l := d.endpoint(name); l != nil && l.group != nil {
			w.to = l.group.lead()
			w.group = w.to.group()
			if before != (lead{}) && before != w.to {
				c.todo.affected.local(l)
			}
		}
		d.count(name, w, 1, unsettled)
	}
	for n := range unsettled {
		d.settle(n, c.options.Groups, look)
	}
	return look
}

// count counts an interface in its classes, or no more.
func (d *dispatch) count(name string, w *wire, by int, unsettled map[number]struct{}) {
	for n := range numbersIn(w.group) {
		cl := d.class(n)
		cl.wished.add(w.to.in(n.direction), by)
		if worn := numberIn(w.have, n.direction); worn.value != 0 && worn != n {
			cl.coming += by
			d.unled = true
		}
		unsettled[n] = struct{}{}
	}
	for n := range numbersIn(w.have) {
		cl := d.class(n)
		unsettled[n] = struct{}{}
		if w.to != (lead{}) {
			cl.worn.add(w.to.in(n.direction), by)
		}
		if by > 0 {
			cl.wearers[name] = struct{}{}
		} else {
			delete(cl.wearers, name)
		}
	}
}

func (d *dispatch) class(n number) *class {
	cl := d.classes[n]
	if cl == nil {
		cl = &class{wished: tally{}, worn: tally{}, wearers: map[string]struct{}{}}
		d.classes[n] = cl
	}
	return cl
}

// settle finds where a number leads, and adds the interfaces for which that makes a difference to those to look at.
func (d *dispatch) settle(n number, groups bool, look map[string]struct{}) {
	cl := d.classes[n]
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
		d.wishing(n, look)
	}
	d.unled = d.unled || cl.coming > 0 && to != cl.to
	cl.to, cl.named = to, named
	if key, t := written(n), d.groups(n.direction); to == (lead{}) {
		t.remove(key)
	} else {
		t.set(key, to)
	}
	if len(cl.wished) == 0 && len(cl.wearers) == 0 {
		delete(d.classes, n)
	}
}

// wishing adds the interfaces that are to have a number.
func (d *dispatch) wishing(n number, look map[string]struct{}) {
	for name, w := range d.wires {
		for own := range numbersIn(w.group) {
			if own == n {
				look[name] = struct{}{}
			}
		}
	}
}

// leads gives where the number leads: to where its endpoints do. If they lead to several places, which have come to the same
// number, they go by their names. Without endpoints it is a number of earlier, and leads to where those do that
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
// leads there. While it has none, as that of a pod that has just come, they are dropped. One that goes by its name because
// others have come to its number has its group all the same: it goes by that from the moment on when they are gone.
func (d *dispatch) route(name string, groups bool) {
	w := d.wires[name]
	want, named := w.group, false
	if !groups {
		want, named = 0, w.to != (lead{})
	}
	for n := range numbersIn(w.group) {
		named = named || d.classes[n].named
	}
	if w.have != 0 {
		var to lead
		for n := range numbersIn(w.have) {
			to = to.with(d.classes[n].to)
		}
		named = named || to != w.to
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

// in gives where it leads in one direction.
func (l lead) in(d api.PolicyType) lead {
	for at := range allSlots() {
		if at.direction != d {
			l[at.number()] = ""
		}
	}
	return l
}

// with adds where another leads.
func (l lead) with(o lead) lead {
	for n, name := range o {
		if name != "" {
			l[n] = name
		}
	}
	return l
}

// group gives the group of interfaces that are led there.
func (l lead) group() uint32 {
	value := func(d api.PolicyType, bits int) uint32 {
		in := l.in(d)
		sum := sha256.Sum256([]byte(strings.Join(in[:], "\n")))
		return max(binary.BigEndian.Uint32(sum[:])>>(32-bits), 1)
	}
	return value(api.Ingress, ingressBits)<<egressBits | value(api.Egress, egressBits)
}

// takeRegrouped gives the interfaces whose wanted groups have changed, in order.
func (d *dispatch) takeRegrouped() []string {
	names := d.regrouped
	d.regrouped = nil
	slices.Sort(names)
	return names
}
