// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
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

// lockedBy says who has locked a file that a program waits for; nothing if nobody has, or the program itself.
func lockedBy(path string, pid int) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		return ""
	}
	var stat unix.Stat_t
	locks, err := os.ReadFile("/proc/locks")
	if err = errors.Join(err, unix.Fstat(int(f.Fd()), &stat)); err != nil {
		return ""
	}
	holder := lockHolder(string(locks), stat.Ino)
	switch {
	case holder == strconv.Itoa(pid):
		return ""
	case holder == "":
		return "another program holds the xtables lock " + path
	}
	name, _ := os.ReadFile("/proc/" + holder + "/comm") // it may have gone by now
	return fmt.Sprintf("process %s (%s) holds the xtables lock %s", holder, strings.TrimSpace(string(name)), path)
}

// lockHolder gives from /proc/locks the process that has locked a file; nothing if it can't be seen from here.
func lockHolder(locks string, inode uint64) string {
	// "1: FLOCK  ADVISORY  WRITE 4711 00:19:1234 0 EOF"; who waits has "->" after the number, and who is in another pid
	// namespace 0 or less.
	for line := range strings.Lines(locks) {
		words := strings.Fields(line)
		if len(words) < 6 || words[1] != "FLOCK" || !strings.HasSuffix(words[5], fmt.Sprintf(":%d", inode)) {
			continue
		}
		if pid, err := strconv.Atoi(words[4]); err == nil && pid > 0 {
			return words[4]
		}
	}
	return ""
}
