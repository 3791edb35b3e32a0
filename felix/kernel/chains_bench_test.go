// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"fmt"
	"maps"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"korat/api"
	"korat/felix/kernel"
	"korat/felix/reconcile"
	"korat/policy/chain"
)

// cpu gives the CPU time in milliseconds of this process, of the children that have ended and of those that run.
func cpu(b *testing.B, running ...int) float64 {
	b.Helper()
	total := 0.0
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err != nil {
			b.Fatal(err)
		}
		total += float64(u.Utime.Nano()+u.Stime.Nano()) / 1e6
	}
	for _, pid := range running {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
		if err != nil {
			b.Fatal(err)
		}
		ns, err := strconv.ParseFloat(strings.Fields(string(text))[0], 64)
		if err != nil {
			b.Fatal(err)
		}
		total += ns / 1e6
	}
	return total
}

// BenchmarkChange changes one rule of one chain of twenty, with 4,000 rules there: by the long-lived program, and by one
// that is started for each change.
func BenchmarkChange(b *testing.B) {
	for _, backend := range []kernel.Backend{kernel.NFT, kernel.Legacy} {
		name := key(api.IPv4, chain.Filter, "cali-7")
		b.Run(string(backend)+"/long-lived", func(b *testing.B) {
			h := newFilterHost(b, backend)
			step := reconcile.NewStep("chains", h.chains(h.config()))
			want := manyChains(200)
			apply(b, step, want)
			original, pid, i := want[name].Rules, h.writer(), 0
			before := cpu(b, pid)
			for b.Loop() {
				want = maps.Clone(want)
				changed := append(append([]chain.Rule{}, original...), from(fmt.Sprint("x", i%2)))
				want[name], i = rules(changed...), i+1
				apply(b, step, want)
			}
			b.ReportMetric((cpu(b, pid)-before)/float64(b.N), "cpu-ms/op")
		})
		b.Run(string(backend)+"/fork", func(b *testing.B) {
			h := newFilterHost(b, backend)
			apply(b, reconcile.NewStep("chains", h.chains(h.config())), manyChains(200))
			i, before := 0, cpu(b)
			for b.Loop() {
				h.restoreText(fmt.Sprintf("*filter\n-R cali-7 20 -m comment --comment cali:abcdefghijklmno%d -i x%d -j DROP\nCOMMIT\n", i%2, i%2))
				i++
			}
			b.ReportMetric((cpu(b)-before)/float64(b.N), "cpu-ms/op")
		})
	}
}

// BenchmarkFirst writes 4,000 rules, and reads them.
func BenchmarkFirst(b *testing.B) {
	for _, backend := range []kernel.Backend{kernel.NFT, kernel.Legacy} {
		b.Run(string(backend), func(b *testing.B) {
			h := newFilterHost(b, backend)
			step := reconcile.NewStep("chains", h.chains(h.config()))
			want := manyChains(200)
			apply(b, step, want)
			b.Run("write", func(b *testing.B) {
				for b.Loop() {
					b.StopTimer()
					apply(b, step, chains{})
					b.StartTimer()
					apply(b, step, want)
				}
			})
			b.Run("read", func(b *testing.B) {
				for b.Loop() {
					table, err := h.handle.Chains(h.config()) // another each time, so that nothing is known from notices
					if err != nil {
						b.Fatal(err)
					}
					if _, err := table.Read(b.Context()); err != nil {
						b.Fatal(err)
					}
					if err := table.Close(); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("resync", func(b *testing.B) {
				for b.Loop() {
					step.Invalidate()
					apply(b, step, want)
				}
			})
		})
	}
}
