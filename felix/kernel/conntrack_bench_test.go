// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"fmt"
	"testing"

	"korat/felix/kernel"
)

// BenchmarkReadFlows looks for flows among those of another pod.
func BenchmarkReadFlows(b *testing.B) {
	h := newPodHost(b)
	h.manyFlows(60_000)
	h.serve("udp", "10.0.2.2:53")
	h.dial("udp", "10.0.1.2:40002", "10.0.2.2:53")
	read := func(b *testing.B, texts ...string) {
		for b.Loop() {
			n := 0
			if err := h.handle.Conntrack().Read(b.Context(), addrs(texts...), func(kernel.Flow) { n++ }); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(n), "flows")
		}
	}
	many := []string{"10.0.2.2"}
	for i := range 30 {
		many = append(many, fmt.Sprintf("10.9.0.%d", i))
	}
	b.Run("one-pod", func(b *testing.B) { read(b, many[:1]...) })
	b.Run("many-pods", func(b *testing.B) { read(b, many...) })
	b.Run("all-flows", func(b *testing.B) { read(b, "10.0.1.2") })
}
