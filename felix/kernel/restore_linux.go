// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"korat/api"
)

const (
	// defaultPatience is how long an answer of iptables-restore's is waited for, and lockPatience how long if
	// another program holds the xtables lock.
	defaultPatience = 20 * time.Second
	lockPatience    = 60 * time.Second
	// lookPeriod is how often it is looked who holds the lock.
	lookPeriod = time.Second
	// endPatience is how long a program may take to end.
	endPatience = 5 * time.Second
	// maxComplaint bounds what is kept of a program's complaints.
	maxComplaint = 16 << 10
)

// restore is a running iptables-restore --noflush, which is fed one transaction after another. Parsing extensions
// and asking the kernel what it can do is done once. As it is verbose it prints the comments that it reads: one behind
// a transaction is the acknowledgement of it. At the first error it complains and ends, without doing anything of the
// transaction.
type restore struct {
	name      string
	process   *os.Process
	in, out   *os.File
	answers   *bufio.Reader
	complaint *complaint
	// ended is closed when the program has ended, with how in err.
	ended chan struct{}
	err   error
	// fed counts the lines that it was given, and asked the acknowledgements.
	fed, asked int
	lock       string
	// locked is told who holds the lock that the program waits for.
	locked *atomic.Pointer[string]
}

// errGone says that the program had ended before it was given anything.
var errGone = errors.New("ended while it had nothing to do")

// refusal says that iptables or the kernel said no to a transaction, and that nothing of it was done.
type refusal struct {
	program, text string
	// lines are those of the transaction that the complaint names, the first being 0.
	lines []int
}

func (e *refusal) Error() string { return e.program + ": " + e.text }

// startRestore starts the program in the Handle's namespace.
func (h *Handle) startRestore(ctx context.Context, c ChainsConfig, f api.Family) (*restore, error) {
	r := &restore{
		name: c.Backend.program(f, "-restore"), complaint: &complaint{}, ended: make(chan struct{}), lock: c.LockFile, locked: &h.locked,
	}
	// Without a number of seconds it waits for the lock for ever. With one it would set an alarm that, when it goes off
	// long after, interrupts its reading and ends it.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), r.name, "--noflush", "--verbose", "-w")
	cmd.Env = c.environment()
	cmd.Stderr, cmd.WaitDelay = r.complaint, time.Second
	if err := r.start(h, cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", r.name, err)
	}
	r.process = cmd.Process
	go func() {
		r.err = cmd.Wait()
		close(r.ended)
	}()
	if err := r.do(ctx, nil, 0, c.patience()); err != nil {
		if errors.Is(err, errGone) { // it has not even read the question
			err = r.verdict(0, err)
		}
		return nil, errors.Join(fmt.Errorf("start %s (iptables 1.8.6 or later is needed): %w", r.name, err), r.close())
	}
	return r, nil
}

func (r *restore) start(h *Handle, cmd *exec.Cmd) error {
	master, slave, err := openTerminal()
	if err != nil {
		return err
	}
	defer slave.Close()
	reader, writer, err := os.Pipe()
	if err != nil {
		return errors.Join(err, master.Close())
	}
	defer reader.Close()
	if err := errors.Join(master.SetReadDeadline(time.Time{}), writer.SetWriteDeadline(time.Time{})); err != nil {
		return errors.Join(fmt.Errorf("bound the wait for answers: %w", err), master.Close(), writer.Close())
	}
	cmd.Stdin, cmd.Stdout = reader, slave
	if err := h.inside(cmd.Start); err != nil {
		return errors.Join(err, master.Close(), writer.Close())
	}
	r.in, r.out, r.answers = writer, master, bufio.NewReader(master)
	return nil
}

// running says whether the program is there to be fed.
func (r *restore) running() bool {
	select {
	case <-r.ended:
		return false
	default:
		return true
	}
}

// do feeds a text of so many lines and waits until all of it is done. After an error the program is of no more use;
// unless that is a *refusal, the text may have been done or not.
func (r *restore) do(ctx context.Context, text []byte, lines int, patience time.Duration) error {
	first := r.fed
	r.asked++
	ask := fmt.Sprintf("# korat %d\n", r.asked)
	r.fed += lines + 1
	w, stop := r.wait(ctx, patience)
	n, err := w.write(ctx, append(text, ask...))
	if err == nil {
		err = w.await(ctx, ask)
	}
	stop()
	if w.cause != nil {
		return fmt.Errorf("%s: %w", r.name, w.cause)
	}
	if err == nil {
		return nil
	}
	verdict := r.verdict(first, err)
	var no *refusal
	if !errors.As(verdict, &no) && n == 0 && errors.Is(err, unix.EPIPE) {
		return errGone
	}
	return verdict
}

// verdict says why a program that has begun to end does so.
func (r *restore) verdict(first int, err error) error {
	if !r.end() {
		return fmt.Errorf("%s: %w", r.name, err)
	}
	var exit *exec.ExitError
	if text := r.complaint.String(); errors.As(r.err, &exit) && exit.Exited() && text != "" {
		return &refusal{program: r.name, text: essence(text), lines: linesOf(text, first)}
	}
	if r.err == nil {
		return fmt.Errorf("%s ended before its time", r.name)
	}
	return fmt.Errorf("%s ended: %w", r.name, r.err)
}

// end waits until the program has ended, and kills it if it takes long; false if it does not even so.
func (r *restore) end() bool {
	for range 2 {
		select {
		case <-r.ended:
			return true
		case <-time.After(endPatience):
			r.interrupt()
		}
	}
	return false
}

// close ends the program, which ends by itself when there is no more to read.
func (r *restore) close() error {
	err := r.in.Close()
	if !r.end() {
		err = errors.Join(err, fmt.Errorf("%s, process %d, does not end", r.name, r.process.Pid))
	}
	return errors.Join(err, r.out.Close())
}

// interrupt kills the program, and ends what waits for it even if the kernel doesn't let it end.
func (r *restore) interrupt() {
	_ = r.process.Kill()
	r.expire()
}

// late says why a program that has not answered for some time is waited for no longer.
func (r *restore) late(waited time.Duration) error {
	waited = waited.Round(time.Millisecond)
	by := lockedBy(r.lock, r.process.Pid)
	switch {
	case by == "":
		return fmt.Errorf("no answer for %s", waited)
	case waited < lockPatience:
		return nil
	}
	return fmt.Errorf("%s, waited %s for it", by, waited)
}

// Awaited says who holds the xtables lock if a program has waited for it for more than a second; else nothing.
func (h *Handle) Awaited() string {
	if by := h.locked.Load(); by != nil {
		return *by
	}
	return ""
}

// complaint keeps the beginning of what a program writes.
type complaint struct {
	mu   sync.Mutex
	text []byte
}

// Write implements io.Writer.
func (c *complaint) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text = append(c.text, p[:min(len(p), maxComplaint-len(c.text))]...)
	return len(p), nil
}

// String gives it.
func (c *complaint) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.text)
}
