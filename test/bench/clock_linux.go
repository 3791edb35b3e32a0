// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"korat/test/bench/guest"
)

// Memory adds up a line of /proc/PID/status, such as VmRSS or VmHWM (the most there ever was), in MB.
func Memory(line string, pids ...int) (float64, error) {
	sum := 0.0
	for _, pid := range pids {
		kb, err := statusLine(pid, line)
		if err != nil {
			return 0, fmt.Errorf("read %s of process %d: %w", line, pid, err)
		}
		sum += float64(kb) / 1024
	}
	return sum, nil
}

func statusLine(pid int, line string) (kb int, err error) {
	file, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), line+":"); ok {
			_, err := fmt.Sscanf(value, "%d kB", &kb)
			return kb, err
		}
	}
	return 0, fmt.Errorf("no line %s", line)
}

const (
	// quietTick is how often quiet looks, and quietUse what the processes may use meanwhile: more than
	// etcd's ten ticks a second.
	quietTick = 5 * time.Millisecond
	quietUse  = 500 * time.Microsecond
	// quietLimit ends the wait for processes that never rest, for each time of rest asked for.
	quietLimit = 50
)

// quiet waits until processes have used next to nothing for a time: what one side of a comparison does
// in the background must not be done in the other's turn.
func quiet(ctx context.Context, rest time.Duration, pids ...int) error {
	tick, limit := time.NewTicker(quietTick), time.NewTimer(quietLimit*rest)
	defer tick.Stop()
	defer limit.Stop()
	since := time.Now()
	last, err := guest.CPU(pids...)
	for err == nil && time.Since(since) < rest {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-limit.C:
			return nil
		case <-tick.C:
		}
		var now time.Duration
		if now, err = guest.CPU(pids...); now-last > quietUse {
			since = time.Now()
		}
		last = now
	}
	return err
}

// pass lets time pass, for what is done by the clock.
func pass(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
