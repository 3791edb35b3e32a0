// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Process is a program that runs on a host.
type Process struct {
	Name string
	PID  int
	// LogFile has its standard output and error, appended to what an earlier process of that name wrote.
	LogFile string
	// Started is when it was started.
	Started time.Time

	cmd *exec.Cmd
	// ended is closed when it has been waited for; err is valid from then on.
	ended chan struct{}
	err   error
}

// start runs argv, which enters the host by itself.
func (h *Host) start(name string, argv []string) (*Process, error) {
	file := filepath.Join(h.lab.config.Dir, h.Name+"-"+name+".log")
	log, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start %s on %s: %w", name, h.Name, err)
	}
	defer log.Close()
	cmd := h.lab.command(context.Background(), argv)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	started := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s on %s: %w", name, h.Name, err)
	}
	p := &Process{Name: name, PID: cmd.Process.Pid, LogFile: file, Started: started, cmd: cmd, ended: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.ended)
	}()
	h.lab.mu.Lock()
	h.processes = append(h.processes, p)
	h.lab.mu.Unlock()
	h.lab.log.Info("process started", "host", h.Name, "process", name, "pid", p.PID, "argv", strings.Join(argv, " "))
	return p, nil
}

// Running reports whether it has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// Signal sends it a signal.
func (p *Process) Signal(sig os.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("send %s to %s (pid %d): %w", sig, p.Name, p.PID, err)
	}
	return nil
}

// Kill sends SIGKILL and waits for the end.
func (p *Process) Kill() error {
	if err := p.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.ended
	return nil
}

// Wait waits for the end and returns how it ended: nil for exit status 0.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.ended:
		if p.err != nil {
			return fmt.Errorf("%s (pid %d): %w", p.Name, p.PID, p.err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for %s (pid %d): %w", p.Name, p.PID, context.Cause(ctx))
	}
}

// Stop sends SIGTERM, as systemd does, and waits for the end. One that does not end in time has to say what it is doing.
func (p *Process) Stop(ctx context.Context) error {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	err := p.Wait(ctx)
	if p.Running() {
		return fmt.Errorf("%w; %s", err, p.quit())
	}
	return err
}

// quit ends it by SIGQUIT, upon which Go's runtime prints all goroutines, and gives these, or else the log's end.
func (p *Process) quit() string {
	_ = p.Signal(syscall.SIGQUIT) // It may have ended since.
	select {
	case <-p.ended:
	case <-time.After(closeTimeout):
		return "nor does SIGQUIT end it; its log ends with\n" + p.tail(20)
	}
	if log, err := p.Log(); err == nil {
		if text := goroutines(log); text != "" {
			return "its goroutines were\n" + text
		}
	}
	return "its log ends with\n" + p.tail(20)
}

// Log returns what it has written.
func (p *Process) Log() (string, error) {
	data, err := os.ReadFile(p.LogFile)
	if err != nil {
		return "", fmt.Errorf("read log of %s: %w", p.Name, err)
	}
	return string(data), nil
}

// tail is the end of the log, for error messages.
func (p *Process) tail(lines int) string {
	log, err := p.Log()
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(log, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
