// SPDX-License-Identifier: Apache-2.0

package bench

import "fmt"

// Row is one line of the result.
type Row struct {
	Name string `json:"name"`
	// Ours and Baseline are medians unless the name says otherwise; Baseline is nil where the target
	// is absolute.
	Ours     float64  `json:"ours"`
	Baseline *float64 `json:"baseline"`
	Unit     string   `json:"unit"`
	// Ratio is Ours by Baseline.
	Ratio *float64 `json:"ratio"`
	// Target bounds Ratio or, without Baseline, Ours; nil where the row only informs.
	Target *float64 `json:"target"`
	Met    bool     `json:"met"`

	// Least are the smallest samples, where there are several.
	Least *Least `json:"-"`
}

// Least is the smallest sample of either.
type Least struct{ Ours, Baseline float64 }

// Against compares two values; the target bounds their ratio. A target of 0 is none.
func Against(name, unit string, ours, baseline, target float64) Row {
	r := Row{Name: name, Ours: ours, Baseline: &baseline, Unit: unit, Met: true}
	ratio := ours / baseline
	r.Ratio = &ratio
	if target > 0 {
		r.Target, r.Met = &target, ratio <= target
	}
	return r
}

// Below bounds a value itself. A target of 0 is none.
func Below(name, unit string, ours, target float64) Row {
	r := Row{Name: name, Ours: ours, Unit: unit, Met: true}
	if target > 0 {
		r.Target, r.Met = &target, ours <= target
	}
	return r
}

// Medians compares the medians of two series in milliseconds.
func Medians(name string, ours, baseline Series, target float64) Row {
	r := Against(name, "ms", ours.Quantile(0.5), baseline.Quantile(0.5), target)
	r.Least = &Least{ours.Quantile(0), baseline.Quantile(0)}
	return r
}

// target says what was to be reached.
func (r Row) target() string {
	switch {
	case r.Target == nil:
		return ""
	case r.Baseline != nil:
		return fmt.Sprintf("%.4g ×", *r.Target)
	default:
		return fmt.Sprintf("%.4g %s", *r.Target, r.Unit)
	}
}

// verdict is empty where there is no target.
func (r Row) verdict() string {
	switch {
	case r.Target == nil:
		return ""
	case r.Met:
		return "met"
	default:
		return "MISSED"
	}
}
