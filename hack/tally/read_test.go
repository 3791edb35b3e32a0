// SPDX-License-Identifier: Apache-2.0

package main

import (
	"regexp"
	"strings"
	"testing"
)

// TestRead holds streams as go test -json writes them against what is printed and counted.
func TestRead(t *testing.T) {
	for _, tc := range []struct {
		name, in, want string
		counts         counts
	}{
		{
			name: "subtests are not counted",
			in: `{"Action":"tier","Package":"unit"}
{"Action":"start","Package":"korat/a"}
{"Action":"run","Package":"korat/a","Test":"TestA"}
{"Action":"run","Package":"korat/a","Test":"TestA/sub"}
{"Action":"pass","Package":"korat/a","Test":"TestA/sub"}
{"Action":"pass","Package":"korat/a","Test":"TestA"}
{"Action":"pass","Package":"korat/a","Elapsed":0.2}
`,
			want:   "== unit\nok    korat/a (0.2s)\n   unit took 0s\n",
			counts: counts{passed: 1},
		},
		{
			name: "a failed test is shown with what it said, a passed one is not",
			in: `{"Action":"run","Package":"korat/a","Test":"TestA"}
{"Action":"output","Package":"korat/a","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"korat/a","Test":"TestA","Output":"    a_test.go:7: have 1, want 2\n"}
{"Action":"output","Package":"korat/a","Test":"TestA","Output":"--- FAIL: TestA (0.10s)\n"}
{"Action":"fail","Package":"korat/a","Test":"TestA","Elapsed":0.1}
{"Action":"run","Package":"korat/a","Test":"TestB"}
{"Action":"output","Package":"korat/a","Test":"TestB","Output":"    chatter\n"}
{"Action":"pass","Package":"korat/a","Test":"TestB"}
{"Action":"output","Package":"korat/a","Output":"FAIL\n"}
{"Action":"fail","Package":"korat/a","Elapsed":0.1}
`,
			want:   "--- FAIL  korat/a TestA (0.1s)\n          a_test.go:7: have 1, want 2\nFAIL  korat/a (0.1s)\n      FAIL\nfailed:\n  korat/a TestA\n",
			counts: counts{passed: 1, failed: 1},
		},
		{
			name: "a skip says why",
			in: `{"Action":"run","Package":"korat/a","Test":"TestA"}
{"Action":"output","Package":"korat/a","Test":"TestA","Output":"    a_test.go:7: no such kernel\n"}
{"Action":"skip","Package":"korat/a","Test":"TestA"}
`,
			want:   "--- SKIP  korat/a TestA\n          a_test.go:7: no such kernel\n",
			counts: counts{skipped: 1},
		},
		{
			name: "a package that does not build is one failure, and its tier's is not another",
			in: `{"Action":"tier","Package":"unit"}
{"ImportPath":"korat/a","Action":"build-output","Output":"a/a.go:3: undefined: x\n"}
{"ImportPath":"korat/a","Action":"build-fail"}
{"Action":"start","Package":"korat/a"}
{"Action":"output","Package":"korat/a","Output":"FAIL\tkorat/a [build failed]\n"}
{"Action":"fail","Package":"korat/a","Elapsed":0,"FailedBuild":"korat/a"}
{"Action":"tier-fail","Package":"unit"}
`,
			want:   "== unit\na/a.go:3: undefined: x\nFAIL  korat/a (0.0s)\n      FAIL\tkorat/a [build failed]\n   unit took 0s\nfailed:\n  korat/a\n",
			counts: counts{failed: 1},
		},
		{
			name: "a tier that fails without a word is a failure",
			in: `{"Action":"tier","Package":"lab"}
go: cannot find main module
{"Action":"tier-fail","Package":"lab"}
`,
			want:   "== lab\ngo: cannot find main module\nFAIL  lab: see above\n   lab took 0s\nfailed:\n  lab\n",
			counts: counts{failed: 1},
		},
		{
			name: "a test that never ended is a failure",
			in: `{"Action":"run","Package":"korat/a","Test":"TestA"}
{"Action":"run","Package":"korat/a","Test":"TestB"}
{"Action":"pass","Package":"korat/a","Test":"TestB"}
{"Action":"output","Package":"korat/a","Test":"TestA","Output":"fatal error: all goroutines are asleep\n"}
{"Action":"fail","Package":"korat/a","Elapsed":3}
`,
			want: "FAIL  korat/a (3.0s)\n--- FAIL  korat/a TestA: never ended\n" +
				"      fatal error: all goroutines are asleep\nfailed:\n  korat/a TestA\n",
			counts: counts{passed: 1, failed: 1},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out strings.Builder
			have, err := read(strings.NewReader(tc.in), &out)
			if err != nil {
				t.Fatal(err)
			}
			if have != tc.counts {
				t.Errorf("have %+v, want %+v", have, tc.counts)
			}
			if text := regexp.MustCompile(`took \d+s`).ReplaceAllString(out.String(), "took 0s"); text != tc.want {
				t.Errorf("have\n%swant\n%s", text, tc.want)
			}
		})
	}
}
