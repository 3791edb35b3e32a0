// SPDX-License-Identifier: Apache-2.0

package memory_test

import (
	"testing"

	"korat/api/store"
	"korat/api/store/memory"
	"korat/api/store/storetest"
)

func TestOutages(t *testing.T) {
	outage := func(name string, noticed bool, begin, end func(*memory.Store, *storetest.Faults)) storetest.Outage {
		return storetest.Outage{Name: name, Open: func(*testing.T) storetest.Rig {
			st := memory.New()
			faults := storetest.NewFaults(st)
			return storetest.Rig{
				Store: faults, Writer: st, Noticed: noticed,
				Begin: func() { begin(st, faults) }, End: func() { end(st, faults) },
			}
		}}
	}
	down := func(down bool) func(*memory.Store, *storetest.Faults) {
		return func(_ *memory.Store, f *storetest.Faults) { f.SetDown(down) }
	}
	hold := func(hold bool) func(*memory.Store, *storetest.Faults) {
		return func(_ *memory.Store, f *storetest.Faults) { f.Hold(hold) }
	}
	compact := func(st *memory.Store, f *storetest.Faults) {
		st.Compact()
		f.Hold(false)
		f.Break(store.ErrCompacted)
	}
	storetest.RunOutages(t, []storetest.Outage{
		outage("disconnect", true, down(true), down(false)),
		outage("compaction during a disconnect", true, down(true), func(st *memory.Store, f *storetest.Faults) {
			st.Compact()
			f.SetDown(false)
		}),
		outage("compaction during the watch", false, hold(false), compact),
		outage("slow reader", false, hold(true), hold(false)),
		outage("slow reader and compaction", false, hold(true), compact),
	})
}
