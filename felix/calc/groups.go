// SPDX-License-Identifier: Apache-2.0

package calc

import "korat/felix/dataplane"

// Groups tells whether the kernel's rules can match link groups.
func (f *Filter) Groups(able bool) {
	o := f.options
	o.Groups = able
	f.configure(o, o.Families)
}

// SetGroup tells which link group an interface has in the kernel: 0 if none, or if there is no such interface.
func (f *Filter) SetGroup(name string, number uint32) { f.compiler.SetGroup(name, number) }

// Group gives the link group that an interface is to have once the chains of the last Update are in the kernel.
func (f *Filter) Group(name string) uint32 { return f.compiler.Group(name) }

// Grouped wants of links the groups that they are to have, and none of those that are there and that nothing is wanted of:
// what is no pod's goes by no pod's policies.
func Grouped(links, have map[string]dataplane.Link, group func(name string) uint32) map[string]dataplane.Link {
	all := make(map[string]dataplane.Link, len(links))
	for name, l := range links {
		l.Group = group(name)
		all[name] = l
	}
	for name, l := range have {
		if _, wanted := links[name]; !wanted && l.Group != 0 && group(name) == 0 {
			all[name] = dataplane.Link{Up: l.Up}
		}
	}
	return all
}
