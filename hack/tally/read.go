// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// event is one line of go test -json (go doc test2json), or one of hack/test's own: "tier" opens a
// tier and "tier-fail" says that its command failed; both have the tier's name in Package.
type event struct {
	Action     string
	Package    string
	ImportPath string // of a build-output event
	Test       string
	Output     string
	Elapsed    float64
}

// counts are of top-level tests.
type counts struct{ passed, failed, skipped int }

// testName identifies a test or, with an empty test, its package.
type testName struct{ pkg, test string }

// tally is what has been read so far.
type tally struct {
	out io.Writer
	counts
	// output is kept until the test or package ends.
	output map[testName][]string
	// running are the top-level tests without a result, of packages without one.
	running map[testName]bool
	// failures names what failed, for the summary at the end.
	failures []string
	// pkgFailed counts a package's failed tests.
	pkgFailed map[string]int
	// tierStart is when the tier began, with the failures until then.
	tier       string
	tierFailed int
	tierStart  time.Time
}

// read prints the stream's story to out and returns its counts.
func read(in io.Reader, out io.Writer) (counts, error) {
	t := &tally{
		out: out, output: map[testName][]string{}, running: map[testName]bool{}, pkgFailed: map[string]int{},
	}
	r := bufio.NewReader(in)
	for {
		line, err := r.ReadBytes('\n')
		if len(line) > 0 {
			t.line(line)
		}
		if errors.Is(err, io.EOF) {
			t.endTier()
			if len(t.failures) > 0 {
				fmt.Fprintf(t.out, "failed:\n  %s\n", strings.Join(t.failures, "\n  "))
			}
			return t.counts, nil
		}
		if err != nil {
			return t.counts, fmt.Errorf("read the results: %w", err)
		}
	}
}

// line takes one line; what is no event is go's own complaint and is passed on.
func (t *tally) line(line []byte) {
	var e event
	if err := json.Unmarshal(line, &e); err != nil {
		fmt.Fprintf(t.out, "%s", line)
		return
	}
	switch {
	case e.Action == "tier":
		t.endTier()
		t.tier, t.tierFailed, t.tierStart = e.Package, t.failed, time.Now()
		fmt.Fprintf(t.out, "== %s\n", t.tier)
	case e.Action == "tier-fail":
		t.tierFail(e.Package)
	case e.Action == "build-output":
		fmt.Fprint(t.out, e.Output)
	case e.Action == "output":
		name := testName{e.Package, e.Test}
		t.output[name] = append(t.output[name], e.Output)
	case e.Test != "":
		t.test(e)
	default:
		t.pkg(e)
	}
}

// tierFail counts a failure that no test or package of the tier accounts for.
func (t *tally) tierFail(what string) {
	if t.failed == t.tierFailed {
		t.fail(what)
		fmt.Fprintf(t.out, "FAIL  %s: see above\n", what)
	}
}

func (t *tally) endTier() {
	if t.tier != "" {
		fmt.Fprintf(t.out, "   %s took %.0fs\n", t.tier, time.Since(t.tierStart).Seconds())
	}
	t.tier = ""
}

// test takes a test's or subtest's event. Subtests are not counted, as their parent fails with them.
func (t *tally) test(e event) {
	name := testName{e.Package, e.Test}
	top := !strings.Contains(e.Test, "/")
	switch e.Action {
	case "run":
		if top {
			t.running[name] = true
		}
		return
	case "pass":
		t.count(&t.passed, name, top)
	case "fail":
		if top {
			t.fail(name.pkg + " " + name.test)
			delete(t.running, name)
		}
		t.pkgFailed[e.Package]++
		fmt.Fprintf(t.out, "--- FAIL  %s %s (%.1fs)\n%s", e.Package, e.Test, e.Elapsed, t.said(name))
	case "skip":
		t.count(&t.skipped, name, top)
		fmt.Fprintf(t.out, "--- SKIP  %s %s\n%s", e.Package, e.Test, t.said(name))
	default: // pause, cont, bench, start
		return
	}
	delete(t.output, name)
}

func (t *tally) fail(what string) {
	t.failed++
	t.failures = append(t.failures, what)
}

func (t *tally) count(n *int, name testName, top bool) {
	if top {
		*n++
		delete(t.running, name)
	}
}

// pkg takes a package's event. A package that fails without a failed test (it does not build, it
// timed out, its TestMain exited) counts once; so does each test that never ended.
func (t *tally) pkg(e event) {
	name := testName{e.Package, ""}
	switch e.Action {
	case "pass":
		fmt.Fprintf(t.out, "ok    %s (%.1fs)\n", e.Package, e.Elapsed)
	case "fail":
		fmt.Fprintf(t.out, "FAIL  %s (%.1fs)\n%s", e.Package, e.Elapsed, t.said(name))
		if t.unended(e.Package) == 0 && t.pkgFailed[e.Package] == 0 {
			t.fail(e.Package)
		}
	case "skip": // no test files
	default:
		return
	}
	delete(t.output, name)
}

// unended reports and forgets the package's tests that never ended.
func (t *tally) unended(pkg string) int {
	var names []testName
	for name := range t.running {
		if name.pkg == pkg {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b testName) int { return strings.Compare(a.test, b.test) })
	for _, name := range names {
		t.fail(name.pkg + " " + name.test)
		fmt.Fprintf(t.out, "--- FAIL  %s %s: never ended\n%s", name.pkg, name.test, t.said(name))
		delete(t.running, name)
		delete(t.output, name)
	}
	return len(names)
}

// said gives a test's output without go test's own framing, indented; of a long one head and tail.
func (t *tally) said(name testName) string {
	const head, tail = 40, 80
	var lines []string
	for _, s := range t.output[name] {
		if trimmed := strings.TrimSpace(s); strings.HasPrefix(trimmed, "=== ") || strings.HasPrefix(trimmed, "--- ") {
			continue
		}
		lines = append(lines, "      "+strings.TrimRight(s, "\n")+"\n")
	}
	if more := len(lines) - head - tail; more > 0 {
		lines = slices.Concat(lines[:head], []string{fmt.Sprintf("      … %d more lines …\n", more)}, lines[len(lines)-tail:])
	}
	return strings.Join(lines, "")
}
