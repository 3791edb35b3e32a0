// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"korat/api"
	"korat/policy/chain"
	"korat/policy/compile"
)

// group gives an interface a link group.
func (w *walk) group(name string, number uint32) {
	if w.groups[name] = number; number == 0 {
		delete(w.groups, name)
	}
	w.have.SetGroup(name, number)
}

// interfaces are those that have endpoints, or groups.
func (w *walk) interfaces() map[string]bool {
	all := map[string]bool{}
	for _, l := range w.locals {
		all[l.Interface] = true
	}
	for name := range w.groups {
		all[name] = true
	}
	return all
}

// regroup gives an interface the group that it is to have, or another.
func (w *walk) regroup() string {
	names := slices.Sorted(maps.Keys(w.interfaces()))
	if len(names) == 0 {
		return "nothing"
	}
	if w.IntN(3) == 0 {
		return w.settle()
	}
	name := pick(w, names...)
	mixed := w.have.Group(pick(w, names...))&0x3fff | w.have.Group(pick(w, names...))&^0x3fff
	w.group(name, pick(w, mixed, w.have.Group(name), w.have.Group(pick(w, names...)), w.groups[pick(w, names...)], 0, w.Uint32()))
	return fmt.Sprintf("group of %s = %#x", name, w.groups[name])
}

// settle gives all interfaces the groups that they are to have, as an agent does after an Update.
func (w *walk) settle() string {
	w.follow(w.have.Update())
	for name := range w.interfaces() {
		w.group(name, w.have.Group(name))
	}
	w.follow(w.have.Update())
	return "groups as they should be"
}

// ways holds where each interface leads: to its endpoint, unless it has no group yet, or to a DROP.
func (w *walk) ways(t *testing.T) {
	k := w.frozen(t)
	names := w.interfaces()
	names["caliunknown"] = true
	for name := range names {
		if !strings.HasPrefix(name, "cali") || name == "cali" || strings.HasSuffix(name, "+") {
			continue // not led to, or one that no rule can be for alone: its group is somebody else's
		}
		id := w.owner(name)
		for _, at := range []compile.Check{{Family: api.IPv4, Direction: api.Ingress}, {Family: api.IPv6, Direction: api.Egress}} {
			at.Local = id
			if !slices.Contains(w.options.Families, at.Family) {
				continue
			}
			p := packet{In: name, Out: "eth0", Source: podPrefixes(9)[(at.Family-api.IPv4)/(api.IPv6-api.IPv4)].Addr()}
			if at.Direction == api.Ingress {
				p.In, p.Out = "eth0", name
			}
			want := "Unknown interface"
			key, leads := w.have.ChainAt(at)
			if leads && (w.groups[name] != 0 || w.have.Group(name) == 0 || w.collides(name)) {
				want = "goto " + key.Name
			}
			root := map[api.PolicyType]string{api.Ingress: "cali-to-wl-dispatch", api.Egress: "cali-from-wl-dispatch"}[at.Direction]
			k.Trail = nil
			k.Through(&p, hook{Table: chain.Filter, Name: root})
			if !strings.Contains(strings.Join(k.Trail, "\n"), want) {
				t.Errorf("%s of group %#x (%#x) does not lead to %q:\n%s", name, w.groups[name], w.have.Group(name), want, strings.Join(k.Trail, "\n"))
			}
		}
	}
}

// collides says whether an interface goes by its name because it is to have a number, of one direction or the other, that stands
// for the chains of another's endpoint, too.
func (w *walk) collides(name string) bool {
	for other := range w.interfaces() {
		for direction, mask := range map[api.PolicyType]uint32{api.Ingress: 0x7fffc000, api.Egress: 0x3fff} {
			number := w.have.Group(name) & mask
			if number != 0 && w.have.Group(other)&mask == number && w.ledTo(other, direction) != w.ledTo(name, direction) {
				return true
			}
		}
	}
	return false
}

// ledTo names the chains of an interface's endpoint.
func (w *walk) ledTo(name string, d api.PolicyType) string {
	var all []string
	for _, f := range w.options.Families {
		key, _ := w.have.ChainAt(compile.Check{Local: w.owner(name), Family: f, Direction: d})
		all = append(all, key.Name)
	}
	return strings.Join(all, " ")
}

// owner gives the pod's endpoint that has an interface.
func (w *walk) owner(name string) string {
	for _, id := range slices.Sorted(maps.Keys(w.locals)) {
		if l := w.locals[id]; l.Interface == name && !l.Host {
			return id
		}
	}
	return ""
}

// classes gives names by their numbers: "a = b; c".
func classes(numbers map[string]uint32) string {
	byNumber := map[uint32][]string{}
	for _, name := range slices.Sorted(maps.Keys(numbers)) {
		byNumber[numbers[name]] = append(byNumber[numbers[name]], name)
	}
	var all []string
	for _, names := range byNumber {
		all = append(all, strings.Join(names, " = "))
	}
	slices.Sort(all)
	return strings.Join(all, "; ")
}
