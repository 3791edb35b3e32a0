// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cpuClock is the low bits of the id of a process's CPU clock: MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED) of
// the kernel's posix-timers.h. The clock counts nanoseconds where /proc/PID/stat has hundredths of a second,
// and like that includes threads that have ended.
const cpuClock = 2

// CPU is the time, user and system, that processes have used so far.
func CPU(pids ...int) (sum time.Duration, err error) {
	for _, pid := range pids {
		var t unix.Timespec
		if err := unix.ClockGettime(int32(^pid<<3|cpuClock), &t); err != nil {
			return 0, fmt.Errorf("read CPU clock of process %d: %w", pid, err)
		}
		sum += time.Duration(t.Nano())
	}
	return sum, nil
}

// ownCPU is what this process has used.
func ownCPU() (time.Duration, error) { return CPU(os.Getpid()) }

// children are a process's that run.
func children(pid int) ([]int, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err == nil && len(files) == 0 {
		err = errors.New("this kernel does not tell")
	}
	var all []int
	for _, file := range files {
		text, readErr := os.ReadFile(file)
		if readErr != nil {
			continue // a thread that has ended
		}
		for word := range strings.FieldsSeq(string(text)) {
			child, parseErr := strconv.Atoi(word)
			all, err = append(all, child), errors.Join(err, parseErr)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list children of process %d: %w", pid, err)
	}
	return all, nil
}
