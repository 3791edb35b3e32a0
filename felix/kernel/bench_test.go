// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"korat/felix/dataplane"
	"korat/felix/kernel"
	"korat/felix/reconcile"
)

// The routes of a large cluster.
const benchRoutes = 10_000

// baseline opens the library's handle in the namespace.
func baseline(b *testing.B, h host) *netlink.Handle {
	ns, err := netns.GetFromPath(h.Path())
	if err != nil {
		b.Fatal(err)
	}
	defer ns.Close()
	handle, err := netlink.NewHandleAt(ns)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(handle.Close)
	return handle
}

func BenchmarkWriteRoutes(b *testing.B) {
	want := manyRoutes(benchRoutes)
	b.Run("step", func(b *testing.B) {
		h := newHost(b)
		step := reconcile.NewStep("routes", h.open().Routes())
		for b.Loop() {
			apply(b, step, want)
			b.StopTimer()
			apply(b, step, nil)
			b.StartTimer()
		}
	})
	b.Run("table", func(b *testing.B) {
		h := newHost(b)
		table := h.open().Routes()
		for b.Loop() {
			if err := table.Write(b.Context(), reconcile.Diff[dataplane.RouteKey, dataplane.Route]{Set: want}); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			if err := table.Write(b.Context(), reconcile.Diff[dataplane.RouteKey, dataplane.Route]{Delete: want}); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	})
	b.Run("ip-batch", func(b *testing.B) {
		h := newHost(b)
		var lines []string
		for k, r := range want {
			lines = append(lines, fmt.Sprintf("route add %v %v proto 75", k, strings.Replace(r.String(), "eth0", "eth0 onlink", 1)))
		}
		for b.Loop() {
			h.Batch(lines...)
			b.StopTimer()
			h.Run("ip", "route", "flush", "proto", "75")
			b.StartTimer()
		}
	})
}

func BenchmarkDeleteRoutes(b *testing.B) {
	want := manyRoutes(benchRoutes)
	h := newHost(b)
	step := reconcile.NewStep("routes", h.open().Routes())
	for b.Loop() {
		b.StopTimer()
		apply(b, step, want)
		b.StartTimer()
		apply(b, step, nil)
	}
}

func BenchmarkResyncRoutes(b *testing.B) {
	want := manyRoutes(benchRoutes)
	h := newHost(b)
	handle := h.open()
	step := reconcile.NewStep("routes", handle.Routes())
	apply(b, step, want)
	b.Run("resync", func(b *testing.B) {
		for b.Loop() {
			step.Invalidate()
			apply(b, step, want)
		}
	})
	b.Run("unchanged", func(b *testing.B) {
		for b.Loop() {
			apply(b, step, want)
		}
	})
	b.Run("touch-one", func(b *testing.B) {
		key := prefix("10.1.0.0/32")
		for b.Loop() {
			step.Touch(func(k dataplane.RouteKey, _ dataplane.Route) bool { return k == key })
			apply(b, step, want)
		}
	})
	b.Run("bare-dump", func(b *testing.B) {
		bare := baseline(b, h)
		for b.Loop() {
			list, err := bare.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Protocol: kernel.Protocol}, netlink.RT_FILTER_PROTOCOL)
			if err != nil || len(list) != benchRoutes {
				b.Fatal(len(list), err)
			}
		}
	})
}

func BenchmarkObserve(b *testing.B) {
	h := newHost(b)
	handle := h.open()
	var lines []string
	for i := range 250 {
		lines = append(lines, fmt.Sprintf("link add cali1%03d type veth peer name pod1%03d", i, i))
	}
	h.Batch(lines...)
	apply(b, reconcile.NewStep("routes", handle.Routes()), manyRoutes(benchRoutes))
	for b.Loop() {
		observe(b, handle)
	}
}
