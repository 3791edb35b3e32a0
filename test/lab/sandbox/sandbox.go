// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
)

// The role of this process, from its environment.
const (
	roleVariable = "LAB_SANDBOX"
	roleInit     = "init"
	roleInside   = "inside"
	// filesVariable names a directory of temporary files that ends with the sandbox.
	filesVariable = "LAB_SANDBOX_FILES"
)

// detachWord on the pipe tells process 1 to outlive its owner.
const detachWord = 'd'

// forwarded are the signals that reach the program inside instead of ending its owner.
func forwarded() []os.Signal {
	return []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM}
}

// Config says what runs inside: this program again, with other arguments.
type Config struct {
	// Args are the program's arguments; nil for those of this process.
	Args []string
	// Env is added to this process's environment.
	Env []string
	// Stdin, Stdout and Stderr are handed on; nil is /dev/null.
	Stdin, Stdout, Stderr *os.File
	// temporary has temporary files end with the sandbox.
	temporary bool
}

// Sandbox is a running sandbox, seen by its owner.
type Sandbox struct {
	cmd  *exec.Cmd
	pipe *os.File
	// files is a directory for temporary files of the programs inside; empty if there is none.
	files string
}

// IsInit reports whether this process was started to be process 1 of a sandbox. It must then call
// Init, and nothing else.
func IsInit() bool { return os.Getenv(roleVariable) == roleInit }

// Inside reports whether this process runs in a sandbox.
func Inside() bool { return os.Getenv(roleVariable) == roleInside }

// Main is the body of a TestMain: it calls run in a new sandbox, or in the one that it is already
// in, and returns the exit status.
func Main(run func() int) int {
	switch {
	case IsInit():
		return Init()
	case Inside():
		return run()
	}
	status, err := Run(Config{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return status
}

// Status gives the exit status for a program's error, which it prints after the program's name.
func Status(program string, err error) int {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", program, err)
		return 1
	}
	return 0
}

// Run starts a sandbox, hands signals on to the program inside, and returns its exit status; a
// program that was killed by a signal gives 128 and the signal's number, as in a shell.
func Run(config Config) (int, error) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, forwarded()...)
	defer signal.Stop(signals)
	config.temporary = true
	s, err := Start(config)
	if err != nil {
		return 0, err
	}
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for {
			select {
			case sig := <-signals:
				s.Signal(sig)
			case <-stop:
				return
			}
		}
	}()
	return s.Wait()
}

// Start starts a sandbox. It ends with this process unless it is detached.
func Start(config Config) (*Sandbox, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("start sandbox: namespaces and mounts need root: run this as root, for instance with sudo")
	}
	// The path, not /proc/self/exe, so that a sandbox in a chroot or of another /proc works as well.
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start sandbox: %w", err)
	}
	files := ""
	if config.temporary {
		if files, err = os.MkdirTemp("", "sandbox"); err != nil {
			return nil, fmt.Errorf("start sandbox: %w", err)
		}
	}
	inner, outer, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start sandbox: make pipe: %w", err), os.RemoveAll(files))
	}
	defer inner.Close()
	args := config.Args
	if args == nil {
		args = os.Args[1:]
	}
	cmd := exec.CommandContext(context.Background(), program, args...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(environment(roleInit, files), config.Env...)
	setFiles(cmd, config)
	cmd.ExtraFiles = []*os.File{inner}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		// In a session of its own the terminal's Ctrl-C reaches the program inside once, through
		// its owner, and not every process of the lab.
		Setsid: true,
	}
	if err := cmd.Start(); err != nil {
		outer.Close()
		return nil, errors.Join(fmt.Errorf("start sandbox: %w", err), os.RemoveAll(files))
	}
	return &Sandbox{cmd: cmd, pipe: outer, files: files}, nil
}

// setFiles leaves an interface nil where the file is: a nil *os.File in it would not be.
func setFiles(cmd *exec.Cmd, config Config) {
	if config.Stdin != nil {
		cmd.Stdin = config.Stdin
	}
	if config.Stdout != nil {
		cmd.Stdout = config.Stdout
	}
	if config.Stderr != nil {
		cmd.Stderr = config.Stderr
	}
}

// environment is this process's, with the role that a new one is to have, and the directory of its temporary files.
func environment(role, files string) []string {
	env := []string{roleVariable + "=" + role}
	if files != "" {
		env = append(env, filesVariable+"="+files, "TMPDIR="+files)
	}
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if name != roleVariable && name != filesVariable && (name != "TMPDIR" || files == "") {
			env = append(env, entry)
		}
	}
	return env
}

// PID is process 1 of the sandbox as the owner's pid namespace numbers it.
func (s *Sandbox) PID() int { return s.cmd.Process.Pid }

// Signal sends a signal to the program inside, by way of process 1.
func (s *Sandbox) Signal(sig os.Signal) {
	// The only error is that it has ended, which Wait reports.
	_ = s.cmd.Process.Signal(sig)
}

// Kill ends everything inside at once. Wait still has to be called.
func (s *Sandbox) Kill() { s.Signal(syscall.SIGKILL) }

// Detach lets the sandbox outlive its owner.
func (s *Sandbox) Detach() error {
	if _, err := s.pipe.Write([]byte{detachWord}); err != nil {
		return fmt.Errorf("detach sandbox: %w", err)
	}
	return nil
}

// Wait returns the exit status of the program inside. When it returns, no process of the sandbox is
// left: the kernel lets process 1 go last.
func (s *Sandbox) Wait() (int, error) {
	err := s.cmd.Wait()
	s.pipe.Close()
	_ = os.RemoveAll(s.files) // process 1 may have been killed before it could
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, fmt.Errorf("wait for sandbox: %w", err)
	}
	return exitStatus(s.cmd.ProcessState.Sys().(syscall.WaitStatus)), nil
}

// exitStatus is the number that a shell would show.
func exitStatus(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}
