// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// space is a set of namespaces (network, mount, UTS), kept by a process that sleeps in it.
type space struct {
	name string
	pid  int
	// mnt names the mount namespace, by which its processes are found. It is held open for as long as
	// anybody has the space: the kernel gives the number of a namespace that is gone to the next.
	mnt  string
	held *os.File
	// ended is closed when that process is gone.
	ended chan struct{}
}

type spaceConfig struct {
	name string
	// dirs get an empty tmpfs each.
	dirs []string
	// sysctls are "net/…=value"; those that this kernel does not have are left out.
	sysctls []string
}

// spaceScript prepares the namespaces from within and then becomes the process that keeps them. Its
// arguments are the host name, directories, and sysctls.
const spaceScript = `set -eu
echo "$1" >/proc/sys/kernel/hostname
shift
for arg; do
	case $arg in
	/*) mount -n -t tmpfs -o mode=0755,nosuid,nodev tmpfs "$arg" ;;
	*) key=/proc/sys/${arg%%=*}; if [ -e "$key" ]; then echo "${arg#*=}" >"$key"; fi ;;
	esac
done
ip link set lo up
echo ready
exec sleep infinity </dev/null >/dev/null 2>&1
`

// startSpace returns when the namespaces are ready.
func startSpace(ctx context.Context, config spaceConfig) (*space, error) {
	args := []string{"--mount", "--net", "--uts", "--", "/bin/sh", "-c", spaceScript, "lab", config.name}
	args = append(append(args, config.dirs...), config.sysctls...)
	// Not bound to ctx: it has to live on when the caller is done starting things.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), "unshare", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("make namespaces of %s: %w", config.name, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("make namespaces of %s: %w", config.name, err)
	}
	line, readErr := bufio.NewReader(stdout).ReadString('\n')
	if line != "ready\n" {
		err := cmd.Wait()
		return nil, fmt.Errorf("make namespaces of %s: %w: %s", config.name, errors.Join(readErr, err), strings.TrimSpace(stderr.String()))
	}
	namespace := fmt.Sprintf("/proc/%d/ns/mnt", cmd.Process.Pid)
	mnt, err := os.Readlink(namespace)
	if err != nil {
		return nil, fmt.Errorf("make namespaces of %s: %w", config.name, err)
	}
	held, err := os.Open(namespace)
	if err != nil {
		return nil, fmt.Errorf("make namespaces of %s: %w", config.name, err)
	}
	s := &space{name: config.name, pid: cmd.Process.Pid, mnt: mnt, held: held, ended: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // It is killed in the end; how it ended says nothing.
		close(s.ended)
	}()
	return s, nil
}

// enter is the command line that runs argv in the space. nsenter execs, so the process is argv's.
func (s *space) enter(argv ...string) []string { return s.enterNet("--net", argv) }

// enterNet is enter with another choice of the network namespace.
func (s *space) enterNet(network string, argv []string) []string {
	return append([]string{"nsenter", "--target=" + strconv.Itoa(s.pid), "--mount", "--uts", network, "--"}, argv...)
}

// root is the space's file system as it can be reached from here.
func (s *space) root() string { return fmt.Sprintf("/proc/%d/root", s.pid) }

// run runs a program and returns its standard output.
func (s *space) run(ctx context.Context, argv ...string) (string, error) {
	entered := s.enter(argv...)
	return output(exec.CommandContext(ctx, entered[0], entered[1:]...), s.name, argv)
}

// ip runs a batch of ip commands.
func (s *space) ip(ctx context.Context, batch string) error {
	argv := s.enter("ip", "-batch", "-")
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(batch)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run ip commands %q in %s: %w: %s", batch, s.name, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// closeTimeout bounds the wait for killed processes; one that hangs in the kernel is a bug to report.
const closeTimeout = 10 * time.Second

// close kills every process in the space, whoever started it, until there is none.
func (s *space) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	return Until(ctx, "processes of "+s.name+" end", func(context.Context) error {
		pids := s.processes()
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL) // It may have ended since.
		}
		if len(pids) > 0 {
			return fmt.Errorf("still running: %v", pids)
		}
		return nil
	})
}

// processes lists what runs in the space's mount namespace. A zombie is in none.
func (s *space) processes() []int {
	links, _ := filepath.Glob("/proc/[0-9]*/ns/mnt") // The pattern is well formed.
	var pids []int
	for _, l := range links {
		if have, err := os.Readlink(l); err != nil || have != s.mnt {
			continue
		}
		if pid, err := strconv.Atoi(strings.Split(l, "/")[2]); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
