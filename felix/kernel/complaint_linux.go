// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// linesOf gives the lines that a complaint of iptables-restore's names ("line 7 failed", "Error occurred at line: 7",
// "line 7: RULE_APPEND failed"), counted from first, which was the number of lines before.
func linesOf(complaint string, first int) []int {
	var lines []int
	for _, found := range regexp.MustCompile(`\bline:? (\d+)`).FindAllStringSubmatch(complaint, -1) {
		n, err := strconv.Atoi(found[1])
		if at := n - 1 - first; err == nil && at >= 0 && !slices.Contains(lines, at) {
			lines = append(lines, at)
		}
	}
	return lines
}

// essence gives what a complaint says in one line, without what means nothing to who did not write the lines.
func essence(complaint string) string {
	var parts []string
	for line := range strings.Lines(complaint) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "Error occurred at line") || strings.HasPrefix(line, "Try `") {
			continue
		}
		line = regexp.MustCompile(`^ip6?tables[a-z-]*( v[0-9.]+( \(\w+\))?)?:\s*`).ReplaceAllString(line, "")
		line = regexp.MustCompile(`^line \d+(:| failed:?)\s*`).ReplaceAllString(line, "")
		if line != "" && !slices.Contains(parts, line) {
			parts = append(parts, line)
		}
	}
	if len(parts) == 0 {
		return "refused"
	}
	return strings.Join(parts, "; ")
}

// waitsForLock says whether a program waits for another one to unlock a file: somebody holds the lock, and it is
// not the program.
func waitsForLock(path string, pid int) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		return false
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return false
	}
	// "1: FLOCK  ADVISORY  WRITE 4711 00:19:1234 0 EOF"; who waits has "->" after the number.
	for line := range strings.Lines(string(locks)) {
		if words := strings.Fields(line); len(words) > 4 && words[1] == "FLOCK" && words[4] == strconv.Itoa(pid) {
			return false
		}
	}
	return true
}
