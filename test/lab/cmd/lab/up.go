// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"korat/test/lab"
	"korat/test/lab/sandbox"
)

// settings are what a lab is made from.
type settings struct {
	name        string
	hosts, pods int
	binDir, dir string
	families    string
	// demo shows everything; keep leaves the lab up.
	demo, keep bool
}

func (s *settings) register(f *pflag.FlagSet) {
	f.StringVar(&s.name, "name", s.name, "the lab's name, to have several at once")
	f.IntVar(&s.hosts, "hosts", 3, fmt.Sprintf("number of hosts, %d at most", lab.MaxClusterHosts))
	f.IntVar(&s.pods, "pods", 2, "number of pods on each host")
	f.StringVar(&s.families, "families", string(lab.Dual), fmt.Sprintf("IP versions of hosts and pods: %s, %s or %s", lab.IPv4, lab.IPv6, lab.Dual))
	f.StringVar(&s.binDir, "bin-dir", "", "where korat-node, korat and koratctl are [where this program is]")
	f.StringVar(&s.dir, "dir", "", "directory for the logs; older logs in it are removed [BIN-DIR/labs/NAME]")
}

func (s *settings) args() []string {
	return []string{
		"inside", "--name", s.name, "--hosts", strconv.Itoa(s.hosts), "--pods", strconv.Itoa(s.pods), "--bin-dir", s.binDir,
		"--families", s.families, "--dir", s.dir, "--demo=" + strconv.FormatBool(s.demo), "--keep=" + strconv.FormatBool(s.keep),
	}
}

// check refuses what can't work, before anything is made.
func (s *settings) check() error {
	if !labName.MatchString(s.name) {
		return fmt.Errorf("--name: %q: want a-z, 0-9 and -, 40 at most", s.name)
	}
	if s.hosts < 1 || s.hosts > lab.MaxClusterHosts {
		return fmt.Errorf("--hosts: %d: want 1 to %d", s.hosts, lab.MaxClusterHosts)
	}
	if s.pods < 0 || s.pods > maxPods {
		return fmt.Errorf("--pods: %d: want 0 to %d", s.pods, maxPods)
	}
	if _, err := lab.ParseFamilies(s.families); err != nil {
		return fmt.Errorf("--families: %w", err)
	}
	return s.findFiles()
}

// findFiles makes the directories absolute, and checks that the programs are there.
func (s *settings) findFiles() error {
	if s.binDir == "" {
		program, err := os.Executable()
		if err != nil {
			return fmt.Errorf("--bin-dir: %w", err)
		}
		s.binDir = filepath.Dir(program)
	}
	var err error
	if s.binDir, err = filepath.Abs(s.binDir); err != nil {
		return fmt.Errorf("--bin-dir: %w", err)
	}
	for _, name := range []string{"korat-node", "korat", "koratctl"} {
		if _, err := os.Stat(filepath.Join(s.binDir, name)); err != nil {
			return fmt.Errorf("--bin-dir: %w: make build makes it", err)
		}
	}
	if s.dir == "" {
		s.dir = filepath.Join(s.binDir, "labs", s.name)
	}
	if s.dir, err = filepath.Abs(s.dir); err != nil {
		return fmt.Errorf("--dir: %w", err)
	}
	return nil
}

// maxPods is what a /24 block has room for.
const maxPods = 250

func upCommand() *cobra.Command {
	s := settings{name: "lab", keep: true}
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Bring up hosts on one switch, with pods, and leave them running",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return bringUp(cmd.Context(), s, cmd.OutOrStdout()) },
	}
	s.register(cmd.Flags())
	return cmd
}

func demoCommand() *cobra.Command {
	s := settings{name: "demo", demo: true}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Bring them up, show routes, sessions, pings, times and policies at work, and take them down",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return bringUp(cmd.Context(), s, cmd.OutOrStdout()) },
	}
	s.register(cmd.Flags())
	cmd.Flags().BoolVar(&s.keep, "keep", false, "leave the lab up")
	return cmd
}

// bringUp owns the sandbox while the lab comes up inside: if this process ends, so does the lab.
func bringUp(ctx context.Context, s settings, out io.Writer) error {
	if err := s.check(); err != nil {
		return err
	}
	unlock, err := lock(s.name)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := find(s.name); !errors.Is(err, errNotUp) {
		if err != nil {
			return err
		}
		return fmt.Errorf("lab %s is up already: hack/lab down --name %s ends it, another --name makes another", s.name, s.name)
	}
	return own(ctx, s, out)
}

// own starts the sandbox and stays with it until the lab is up or over.
func own(ctx context.Context, s settings, out io.Writer) error {
	inner, writer, err := os.Pipe()
	if err != nil {
		return err
	}
	defer inner.Close()
	box, err := sandbox.Start(sandbox.Config{Args: s.args(), Stdout: writer, Stderr: os.Stderr})
	writer.Close()
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, box.Kill)()
	status, up, err := relay(inner, out)
	if up && err == nil && ctx.Err() == nil {
		if err = leaveUp(box, s, out); err == nil {
			return exitWith(status)
		}
	}
	if err != nil {
		box.Kill()
	}
	status, waitErr := box.Wait()
	if ctx.Err() != nil {
		return errors.New("interrupted: everything is taken down")
	}
	if err := errors.Join(err, waitErr); err != nil {
		return err
	}
	return exitWith(status)
}

func exitWith(status int) error {
	if status == 0 {
		return nil
	}
	return exitError(status)
}

// upWord begins the line with which the program inside says that the lab is up, and with what status.
const upWord = "@up "

// relay prints what comes from inside, until the lab is up or the program there has ended.
func relay(from io.Reader, to io.Writer) (status int, up bool, err error) {
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		if number, found := strings.CutPrefix(lines.Text(), upWord); found {
			status, err := strconv.Atoi(number)
			return status, true, err
		}
		if _, err := fmt.Fprintln(to, lines.Text()); err != nil {
			return 0, false, err
		}
	}
	return 0, false, lines.Err()
}

// leaveUp notes where the lab is, lets it go, and says how to enter it.
func leaveUp(box *sandbox.Sandbox, s settings, out io.Writer) error {
	if err := note(s.name, box.PID()); err != nil {
		return err
	}
	if err := box.Detach(); err != nil {
		return errors.Join(err, forget(s.name))
	}
	fmt.Fprintf(out, `
Lab %[1]s is up; its logs are in %[2]s.
  hack/lab exec --name %[1]s a ip route           # on a host
  hack/lab exec --name %[1]s a/a1 ip route        # in a pod; without a command, a shell
  hack/lab status --name %[1]s
  hack/lab down --name %[1]s
`, s.name, s.dir)
	return nil
}

// lock keeps two programs from bringing up the same lab. The name vanishes with its socket.
func lock(name string) (unlock func(), err error) {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "unix", "@korat-lab-"+name)
	if err != nil {
		return nil, fmt.Errorf("lab %s is being brought up by another program: %w", name, err)
	}
	return func() { l.Close() }, nil
}
