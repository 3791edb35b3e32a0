// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"time"
)

// Runner is where a program can be run: a Host or a Pod.
type Runner interface {
	Exec(ctx context.Context, argv ...string) (string, error)
}

var pingTime = regexp.MustCompile(` time=([0-9.]+) ms`)

// Ping sends one echo request and returns the round trip's time. It waits two seconds for the answer.
func Ping(ctx context.Context, from Runner, to netip.Addr) (time.Duration, error) {
	out, err := from.Exec(ctx, "ping", "-n", "-c", "1", "-W", "2", to.String())
	if err != nil {
		return 0, err
	}
	match := pingTime.FindStringSubmatch(out)
	if match == nil {
		return 0, fmt.Errorf("read ping's output: no time in %q", out)
	}
	ms, err := strconv.ParseFloat(match[1], 64)
	if err != nil {
		return 0, fmt.Errorf("read ping's output: %w", err)
	}
	return time.Duration(ms * float64(time.Millisecond)), nil
}
