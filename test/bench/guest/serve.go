// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"korat/test/lab"
)

// Word is the argument that makes the program a guest.
const Word = "guest"

// Nothing is the argument or the answer of a call that has none.
type Nothing struct{}

// Serve answers calls until standard input ends. Calls by net/rpc carry no context, so ctx is that of
// the programs they run.
func Serve(ctx context.Context) error {
	server := rpc.NewServer()
	for _, service := range []any{
		&Plugins{ctx}, &Routes{}, &Monitor{}, &Claim{}, &Speaker{}, &Bird{ctx}, &Etcd{},
		&Filter{}, &Fork{ctx}, &Calico{ctx: ctx}, &Pods{ctx: ctx}, &Rules{}, &Members{}, &Path{ctx: ctx},
	} {
		if err := server.Register(service); err != nil {
			return fmt.Errorf("register service: %w", err)
		}
	}
	// A thread that waits for the next call in a system call has the runtime look after it fifty times a millisecond, which
	// would be a fifth of what is measured. Of a pipe that does not block the runtime is told.
	if err := unix.SetNonblock(unix.Stdin, true); err != nil {
		return fmt.Errorf("read calls: %w", err)
	}
	server.ServeCodec(jsonrpc.NewServerCodec(pipes{os.NewFile(uintptr(unix.Stdin), "calls"), os.Stdout}))
	return nil
}

// Guest is a guest as its caller sees it.
type Guest struct {
	client *rpc.Client
	cmd    *exec.Cmd
}

// Start starts a guest on a host. What it has to say goes to log.
func Start(ctx context.Context, h *lab.Host, log io.Writer) (*Guest, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start guest on %s: %w", h.Name, err)
	}
	cmd := h.Command(ctx, program, Word)
	cmd.Stderr = log
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start guest on %s: %w", h.Name, err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start guest on %s: %w", h.Name, err)
	}
	return &Guest{jsonrpc.NewClient(pipes{out, in}), cmd}, nil
}

// Call calls "Service.Method" and waits for the answer.
func (g *Guest) Call(ctx context.Context, method string, args, reply any) error {
	select {
	case call := <-g.client.Go(method, args, reply, make(chan *rpc.Call, 1)).Done:
		if call.Error != nil {
			return fmt.Errorf("call %s: %w", method, call.Error)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("call %s: %w", method, context.Cause(ctx))
	}
}

// PID is its process.
func (g *Guest) PID() int { return g.cmd.Process.Pid }

// pipes is a connection of two.
type pipes struct {
	io.ReadCloser
	io.WriteCloser
}

func (p pipes) Close() error { return errors.Join(p.ReadCloser.Close(), p.WriteCloser.Close()) }

// now reads CLOCK_MONOTONIC.
func now() (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0, fmt.Errorf("read clock: %w", err)
	}
	return time.Duration(t.Nano()), nil
}
