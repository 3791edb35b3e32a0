// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// pipeFD is the owner's pipe: the first of exec.Cmd's ExtraFiles.
const pipeFD = 3

// statusFailed is what process 1 ends with when it could not start the program inside, and when its
// owner is gone.
const statusFailed = 125

// Init is process 1: it prepares the namespaces, starts the program inside, hands signals on to it,
// reaps what is orphaned, and returns the status to exit with.
func Init() int {
	pipe := os.NewFile(pipeFD, "owner")
	unix.CloseOnExec(pipeFD)
	owner := make(chan ownerEvent, 1)
	go watchOwner(pipe, owner)
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, forwarded()...)
	if err := prepare(); err != nil {
		fmt.Fprintln(os.Stderr, fmt.Errorf("prepare sandbox: %w", err))
		return statusFailed
	}
	defer removeTemporary()
	program, err := startInside()
	if err != nil {
		fmt.Fprintln(os.Stderr, fmt.Errorf("start the program in the sandbox: %w", err))
		return statusFailed
	}
	ended := make(chan int, 1)
	go func() { ended <- reap(program.Pid) }()
	for {
		select {
		case sig := <-signals:
			_ = program.Signal(sig) // It may have ended; the next turn sees that.
		case status := <-ended:
			return status
		case event := <-owner:
			if event == ownerGone {
				return statusFailed
			}
			dropTerminal()
		}
	}
}

// removeTemporary removes what programs that are killed leave of temporary files.
func removeTemporary() {
	if files := os.Getenv(filesVariable); files != "" {
		_ = unix.Kill(-1, unix.SIGKILL) // there may be none
		_ = os.RemoveAll(files)         // the owner tries as well
	}
}

// ownerEvent is what happens to the owner: it detaches the sandbox, or it is gone without having done so.
type ownerEvent int

const (
	ownerGone ownerEvent = iota
	ownerDetached
)

func watchOwner(pipe *os.File, events chan<- ownerEvent) {
	word := make([]byte, 1)
	if n, _ := pipe.Read(word); n == 1 && word[0] == detachWord {
		events <- ownerDetached
		return
	}
	events <- ownerGone
}

// dropTerminal lets the owner's terminal and pipes go, so that whoever reads them sees their end. The
// program inside has its own copies of them.
func dropTerminal() {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return // They stay open, and that is all.
	}
	defer null.Close()
	for fd := range 3 {
		_ = unix.Dup3(int(null.Fd()), fd, 0)
	}
}

// startInside starts this program again, as an ordinary process.
func startInside() (*os.Process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return os.StartProcess(program, os.Args, &os.ProcAttr{
		Env:   environment(roleInside, os.Getenv(filesVariable)),
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
	})
}

// reap collects every child, the orphans that the kernel gives to process 1 among them, until the
// program inside ends; it returns that one's status.
func reap(program int) int {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return statusFailed
		case pid == program:
			return exitStatus(status)
		}
	}
}

// prepare makes the new namespaces fit to run programs in.
func prepare() error {
	if err := prepareMounts(); err != nil {
		return err
	}
	return setLoopbackUp()
}

func setLoopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open socket: %w", err)
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}
