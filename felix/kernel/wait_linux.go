// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"
)

// waiter bounds how long a program is written to and waited for. It does so by deadlines of its files, which end now and
// then to look around: a goroutine beside would have another thread woken up for each transaction, which costs as much
// as all else on this side of it.
type waiter struct {
	*restore
	patience time.Duration
	begun    time.Time
	// until is when the patience ends.
	until time.Time
	// cause is why the program was interrupted.
	cause error
}

// pipeRoom is what the program's pipe takes at once, as the program has read all before (pipe(7): PIPE_BUF).
const pipeRoom = 4096

// wait begins to wait. The function that it gives ends it.
func (r *restore) wait(ctx context.Context, patience time.Duration) (*waiter, func()) {
	now := time.Now()
	w := &waiter{restore: r, patience: patience, begun: now, until: now.Add(patience)}
	unhook := context.AfterFunc(ctx, r.expire)
	return w, func() {
		unhook()
		_ = r.out.SetReadDeadline(time.Time{}) // which else would wake this process for nothing
		r.locked.Store(nil)
	}
}

// expire ends what is written and read.
func (r *restore) expire() {
	past := time.Unix(1, 0)
	_ = r.in.SetWriteDeadline(past)
	_ = r.out.SetReadDeadline(past)
}

// arm sets the deadline until the next look, and says whether to wait.
func (w *waiter) arm(ctx context.Context, now time.Time, set func(time.Time) error) bool {
	next := now.Add(lookPeriod)
	if w.until.Before(next) {
		next = w.until
	}
	_ = set(next)
	if w.cause = ctx.Err(); w.cause != nil { // if it ends after this, it ends the deadline as well
		w.interrupt()
		return false
	}
	return true
}

// again says whether to go on after an error: after a deadline there may be more patience, which begins anew while another
// one holds the lock. If not, it interrupts the program.
func (w *waiter) again(ctx context.Context, err error, set func(time.Time) error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	now := time.Now()
	waited := now.Sub(w.begun)
	by := lockedBy(w.lock, w.process.Pid)
	if by != "" && waited >= lookPeriod {
		w.locked.Store(&by)
	}
	if by != "" && waited >= lockPatience || by == "" && !now.Before(w.until) {
		if w.cause = w.late(waited); w.cause != nil {
			w.interrupt()
			return false
		}
		by = "another program" // has taken it just now
	}
	if by != "" {
		w.until = now.Add(w.patience)
	}
	return w.arm(ctx, now, set)
}

// write writes a text, and says how much of it.
func (w *waiter) write(ctx context.Context, text []byte) (n int, err error) {
	if len(text) > pipeRoom && !w.arm(ctx, w.begun, w.in.SetWriteDeadline) {
		return 0, w.cause
	}
	for {
		some, err := w.in.Write(text[n:])
		if n += some; err == nil || !w.again(ctx, err, w.in.SetWriteDeadline) {
			return n, err
		}
	}
}

// await reads until the program has printed a line.
func (w *waiter) await(ctx context.Context, want string) error {
	if !w.arm(ctx, time.Now(), w.out.SetReadDeadline) {
		return w.cause
	}
	for line := ""; ; {
		some, err := w.answers.ReadString('\n')
		switch line += some; {
		case err == nil && strings.TrimSpace(line) == strings.TrimSpace(want):
			return nil
		case err == nil:
			line = ""
		case !w.again(ctx, err, w.out.SetReadDeadline):
			return err
		}
	}
}
