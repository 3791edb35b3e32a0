// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// goroutines gives what a Go program says of them as SIGQUIT ends it: a line for each stack, with how many have it; those
// first that korat's code is in. It is empty where the log has none.
func goroutines(log string) string {
	at := strings.LastIndex(log, "SIGQUIT: quit\n")
	if at < 0 {
		return ""
	}
	count := map[string]int{}
	for block := range strings.SplitSeq(log[at:], "\n\n") {
		if s := stack(block); s != "" {
			count[s]++
		}
	}
	foreign := func(s string) int {
		if strings.Contains(s, " korat/") || strings.Contains(s, " main.") {
			return 0
		}
		return 1
	}
	var text strings.Builder
	for _, s := range slices.SortedFunc(maps.Keys(count), func(a, b string) int {
		return cmp.Or(foreign(a)-foreign(b), cmp.Compare(a, b))
	}) {
		fmt.Fprintf(&text, "%d × %s\n", count[s], s)
	}
	return text.String()
}

// stack turns a goroutine into a line: what it waits for, and its functions, the innermost first. The runtime's own are
// left out, and with them goroutines that have no others.
func stack(block string) string {
	lines := strings.Split(block, "\n")
	_, header, ok := strings.Cut(lines[0], " [")
	if !ok || !strings.HasPrefix(lines[0], "goroutine ") {
		return ""
	}
	state, _, _ := strings.Cut(strings.TrimSuffix(header, "]:"), ",") // without for how long
	var frames []string
	for i, line := range lines[1:] {
		end := strings.LastIndexByte(line, '(')
		if end < 0 || line[0] == '\t' || strings.HasPrefix(line, "runtime.") || strings.HasPrefix(line, "created by ") {
			continue
		}
		where := ""
		if i+2 < len(lines) {
			where, _, _ = strings.Cut(path.Base(strings.TrimSpace(lines[i+2])), " ")
		}
		frames = append(frames, line[:end]+" "+where)
	}
	if len(frames) == 0 {
		return ""
	}
	return "[" + state + "] " + strings.Join(frames, " < ")
}
