// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"korat/test/lab"
)

// Footprint is what a process held in memory, in KiB, at the end of each round.
type Footprint []int

// The growth that Flat lets pass. Go's collector lets the heap swing by as much as is live, and gives freed memory
// back to the kernel minutes later; medians of a quarter's samples still differ by some percent for that alone. A
// leak grows with the number of pods: one of a kilobyte per pod shows after some thousand of them.
const (
	growthShare = 10
	growthFloor = 4 << 10
)

// Median is that of the part of the samples between two quarters of the run: Median(1, 2) that of the second.
func (f Footprint) Median(from, to int) int {
	part := slices.Sorted(slices.Values(f[len(f)*from/4 : len(f)*to/4]))
	if len(part) == 0 {
		return 0
	}
	return part[len(part)/2]
}

// Growth is by how much the last quarter's median exceeds the second's. The first quarter is warming up.
func (f Footprint) Growth() int { return f.Median(3, 4) - f.Median(1, 2) }

// Flat says whether that is no more than chance.
func (f Footprint) Flat() bool {
	return f.Growth() <= max(growthFloor, f.Median(1, 2)*growthShare/100)
}

// resident is what a process holds now.
func resident(pid int) (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("measure memory: %w", err)
	}
	_, rest, found := strings.Cut(string(text), "VmRSS:")
	fields := strings.Fields(rest)
	if !found || len(fields) < 2 || fields[1] != "kB" {
		return 0, fmt.Errorf("measure memory: process %d has none", pid)
	}
	return strconv.Atoi(fields[0])
}

// measure gives the memory of a host's agent and its speaker.
func (s *Site) measure(h *lab.Host) (agent, speaker int, err error) {
	if agent, err = resident(s.Agent(h).PID); err != nil {
		return 0, 0, err
	}
	pids := h.Pids("korat-node", "speaker")
	if len(pids) != 1 {
		return 0, 0, fmt.Errorf("measure memory: speakers on %s: %v, want one", h.Name, pids)
	}
	speaker, err = resident(pids[0])
	return agent, speaker, err
}
