// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"math"
	"slices"
	"time"
)

// Series are the samples of one measurement, in milliseconds.
type Series []float64

// Add appends a sample.
func (s *Series) Add(d time.Duration) { *s = append(*s, Milliseconds(d)) }

// Quantile gives the smallest sample that at least the share q of all samples do not exceed; 0 gives the
// least one. It is NaN of none.
func (s Series) Quantile(q float64) float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(s))
	return sorted[max(0, int(math.Ceil(q*float64(len(s))))-1)]
}

// Mean is the average.
func (s Series) Mean() float64 {
	sum := 0.0
	for _, v := range s {
		sum += v
	}
	return sum / float64(len(s))
}

// Milliseconds as a number.
func Milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
