// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Plugins runs CNI plugins as libcni's invoke.RawExec does: one exec, the configuration on standard
// input, parameters in the environment.
type Plugins struct{ ctx context.Context }

// PluginCall is one call of a plugin for the pod of a name, which is its network namespace's as well.
type PluginCall struct {
	// Path is CNI_PATH, where the plugin is too.
	Path, Plugin, Config string
	Command, Pod         string
}

// Cost is what a call took. CPU is the plugin's own and that of the processes it waited for.
type Cost struct{ Wall, CPU time.Duration }

// MakePods makes network namespaces.
func (p *Plugins) MakePods(names []string, _ *Nothing) error {
	var batch strings.Builder
	for _, name := range names {
		fmt.Fprintf(&batch, "netns add %s\n", name)
	}
	cmd := exec.CommandContext(p.ctx, "ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(batch.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make network namespaces: %w: %s", err, out)
	}
	return nil
}

// One makes one call.
func (p *Plugins) One(call PluginCall, cost *Cost) error {
	var err error
	*cost, err = run(p.ctx, call)
	return err
}

// Together makes calls at the same time.
func (p *Plugins) Together(calls []PluginCall, costs *[]Cost) error {
	*costs = make([]Cost, len(calls))
	errs := make([]error, len(calls))
	var all sync.WaitGroup
	for i, call := range calls {
		all.Go(func() { (*costs)[i], errs[i] = run(p.ctx, call) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// TracedCall is a call whose execs are counted, along with those of other processes meanwhile.
type TracedCall struct {
	PluginCall
	PIDs []int
}

// Execs counts the programs started for a call, the plugin included.
func (p *Plugins) Execs(call TracedCall, count *int) error {
	dir, err := os.MkdirTemp("", "execs")
	if err != nil {
		return fmt.Errorf("trace %s: %w", call.Plugin, err)
	}
	defer os.RemoveAll(dir)
	stop, err := traceOthers(p.ctx, dir+"/others", call.PIDs)
	if err != nil {
		return fmt.Errorf("trace %s: %w", call.Plugin, err)
	}
	cmd := command(p.ctx, call.PluginCall)
	traced := exec.CommandContext(p.ctx, "strace", traceArgs(dir+"/plugin", cmd.Path)...)
	traced.Env, traced.Stdin = cmd.Env, cmd.Stdin
	out, err := traced.CombinedOutput()
	if err = errors.Join(err, stop()); err != nil {
		return fmt.Errorf("trace %s: %w: %s", call.Plugin, err, out)
	}
	for _, file := range []string{dir + "/plugin", dir + "/others"} {
		trace, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("trace %s: %w", call.Plugin, err)
		}
		*count += strings.Count(string(trace), " = 0\n")
	}
	return nil
}

func traceArgs(file string, more ...string) []string {
	return append([]string{"-f", "-qq", "-e", "trace=execve", "-e", "signal=none", "-o", file}, more...)
}

// traceOthers traces processes until stop.
func traceOthers(ctx context.Context, file string, pids []int) (stop func() error, err error) {
	if len(pids) == 0 {
		return func() error { return nil }, nil
	}
	var attach []string
	for _, pid := range pids {
		attach = append(attach, "-p", strconv.Itoa(pid))
	}
	cmd := exec.CommandContext(ctx, "strace", traceArgs(file, attach...)...)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() error {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			return err
		}
		_ = cmd.Wait() // It ends by the signal.
		return nil
	}, awaitTracer(pids, cmd.Process.Pid)
}

// awaitTracer waits until processes are traced.
func awaitTracer(pids []int, tracer int) error {
	want := fmt.Sprintf("\nTracerPid:\t%d\n", tracer)
	limit := time.Now().Add(awaitLimit)
	for _, pid := range pids {
		for {
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			if err != nil {
				return err
			}
			if strings.Contains(string(status), want) {
				break
			}
			if time.Now().After(limit) {
				return fmt.Errorf("process %d is not traced", pid)
			}
			<-time.After(time.Millisecond)
		}
	}
	return nil
}

func run(ctx context.Context, call PluginCall) (Cost, error) {
	cmd := command(ctx, call)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	err := cmd.Run()
	wall := time.Since(began)
	if err != nil {
		return Cost{}, fmt.Errorf("%s of %s by %s: %w: %s%s", call.Command, call.Pod, call.Plugin, err, &stdout, &stderr)
	}
	return Cost{wall, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}, nil
}

func command(ctx context.Context, call PluginCall) *exec.Cmd {
	sum := sha256.Sum256([]byte(call.Pod))
	id := hex.EncodeToString(sum[:])
	cmd := exec.CommandContext(ctx, call.Path+"/"+call.Plugin)
	cmd.Stdin = strings.NewReader(call.Config)
	cmd.Env = append(os.Environ(),
		"CNI_COMMAND="+call.Command, "CNI_CONTAINERID="+id, "CNI_NETNS=/run/netns/"+call.Pod, "CNI_IFNAME=eth0",
		"CNI_PATH="+call.Path,
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME="+call.Pod+";K8S_POD_INFRA_CONTAINER_ID="+id)
	return cmd
}
