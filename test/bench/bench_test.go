// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"korat/test/bench/guest"
)

func TestQuantile(t *testing.T) {
	hundred := Series{}
	for i := range 100 {
		hundred = append(hundred, float64(100-i))
	}
	for _, c := range []struct {
		series  Series
		q, want float64
	}{
		{Series{7}, 0, 7},
		{Series{7}, 0.5, 7},
		{Series{7}, 1, 7},
		{Series{3, 1, 2}, 0, 1},
		{Series{3, 1, 2}, 0.5, 2},
		{Series{4, 3, 1, 2}, 0.5, 2},
		{Series{3, 1, 2}, 1, 3},
		{hundred, 0.99, 99},
		{hundred, 0.5, 50},
	} {
		if have := c.series.Quantile(c.q); have != c.want {
			t.Errorf("quantile %v of %v: want %v, have %v", c.q, c.series, c.want, have)
		}
	}
	if have := (Series{}).Quantile(0.5); !math.IsNaN(have) {
		t.Errorf("median of nothing: %v", have)
	}
}

func rows() []Row {
	return []Row{
		Medians("faster", Series{1, 2, 3}, Series{10, 20, 30}, 0.25),
		Against("slower", "ms", 15, 10, 1.2),
		Below("smaller", "MB", 123.4, 300),
		Below("larger", "s", 10.01, 10),
		Below("told", "ms", 0.5, 0),
	}
}

func TestPrint(t *testing.T) {
	var out strings.Builder
	if err := Print(&out, rows()); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(out.String()) {
		lines = append(lines, strings.TrimRight(line, " \n"))
	}
	want := []string{
		"         ours  baseline  unit  ratio  target          min: ours  baseline",
		"faster   2     20.0      ms    0.10   0.25 ×  met     1          10.0",
		"slower   15.0  10.0      ms    1.50   1.2 ×   MISSED",
		"smaller  123             MB           300 MB  met",
		"larger   10.0            s            10 s    MISSED",
		"told     0.5             ms",
		"2 of 4 targets met",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("want (-), have (+):\n%s", diff)
	}
}

func TestSave(t *testing.T) {
	file := filepath.Join(t.TempDir(), "new", "bench.json")
	if err := Save(file, rows()[1:3]); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var have, want any
	if err := json.Unmarshal(data, &have); err != nil {
		t.Fatal(err)
	}
	const text = `{"rows":[
		{"name":"slower","ours":15,"baseline":10,"unit":"ms","ratio":1.5,"target":1.2,"met":false},
		{"name":"smaller","ours":123.4,"baseline":null,"unit":"MB","ratio":null,"target":300,"met":true}]}`
	if err := json.Unmarshal([]byte(text), &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("want (-), have (+):\n%s", diff)
	}
}

func TestClock(t *testing.T) {
	before, err := guest.CPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for sum := before; sum == before; {
		if sum, err = guest.CPU(os.Getpid()); err != nil || sum < before {
			t.Fatalf("from %v to %v: %v", before, sum, err)
		}
	}
	if mb, err := Memory("VmRSS", os.Getpid()); err != nil || mb < 1 || mb > 10_000 {
		t.Errorf("%v MB: %v", mb, err)
	}
	if _, err := guest.CPU(math.MaxInt32 >> 4); err == nil {
		t.Error("CPU of a process that can't exist: no error")
	}
	if _, err := Memory("VmNone", os.Getpid()); err == nil {
		t.Error("a line that can't exist: no error")
	}
}
