// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"korat/felix"
	"korat/test/lab"
	"korat/test/lab/sandbox"
)

func TestMain(m *testing.M) { os.Exit(sandbox.Main(m.Run)) }

// patience bounds every single wait. It is below resync-interval.
const patience = 45 * time.Second

// settings of every agent here: the longest resync that there is.
const settings = "resync-interval: 2m30s\n"

// binDir is where hack/build leaves the programs.
const binDir = "../../build"

// world is a cluster with the test that it belongs to. Methods fail the test.
type world struct {
	*testing.T
	*lab.Cluster
	ctx context.Context
	// started counts processes, so that each gets a log of its own.
	started int
}

// hosts makes hosts a, b, c… of IPv4 with their configuration, and starts nothing.
func hosts(t *testing.T, n int, more string) *world {
	t.Helper()
	return hostsOf(t, lab.IPv4, n, more)
}

// hostsOf makes the test run beside others from here on: most of the time all of them wait.
func hostsOf(t *testing.T, families lab.Families, n int, more string) *world {
	t.Helper()
	t.Parallel()
	for _, name := range []string{"korat-node", "korat", "koratctl"} {
		if _, err := os.Stat(binDir + "/" + name); err != nil {
			t.Fatalf("%v: run hack/build first", err)
		}
	}
	c, err := lab.NewCluster(t.Context(), lab.ClusterConfig{
		Config: lab.Config{Dir: t.TempDir(), BinDir: binDir, Families: families}, Hosts: n, Settings: settings + more,
	})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, Cluster: c, ctx: t.Context()}
	t.Cleanup(func() {
		if t.Failed() {
			w.explain()
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// cluster is hosts of IPv4 with agents that are ready and see each other.
func cluster(t *testing.T, n int) *world {
	t.Helper()
	return clusterOf(t, lab.IPv4, n)
}

func clusterOf(t *testing.T, families lab.Families, n int) *world {
	t.Helper()
	w := hostsOf(t, families, n, "")
	if err := w.StartAgents(); err != nil {
		t.Fatal(err)
	}
	w.ready(w.Agents...)
	w.meshed(w.Hosts()...)
	w.settled(w.Hosts()...)
	return w
}

// settled waits until the hosts have the blocks that every node claims ahead of use, one of each of its
// families: what a test compares with later includes their routes.
func (w *world) settled(hosts ...*lab.Host) {
	w.Helper()
	for _, h := range hosts {
		w.until(h.Name+" has a block", func(ctx context.Context) error {
			for _, addr := range h.Addresses() {
				out, err := h.Exec(ctx, "ip", version(addr), "route", "show", "type", "blackhole")
				if err == nil && out == "" {
					err = errors.New("no blackhole")
				}
				if err != nil {
					return fmt.Errorf("ip %s: %w", version(addr), err)
				}
			}
			return nil
		})
	}
}

// version gives ip's option for an address's family.
func version(a netip.Addr) string {
	if a.Is4() {
		return "-4"
	}
	return "-6"
}

// explain logs what a person would look at first.
func (w *world) explain() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, h := range w.Hosts() {
		for _, command := range []string{"ip -4 route", "ip -6 route", "koratctl node status --timeout=1s", "tail -n 40 " + w.Dir() + "/" + h.Name + "-" + lab.AgentLog + ".log"} {
			out, err := h.Exec(ctx, strings.Fields(command)...)
			if err != nil {
				out += err.Error()
			}
			w.Logf("%s# %s\n%s", h.Name, command, out)
		}
	}
}

// limit gives a context for one wait.
func (w *world) limit() context.Context {
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	w.Cleanup(cancel)
	return ctx
}

func (w *world) host(name string) *lab.Host {
	w.Helper()
	i := slices.IndexFunc(w.Hosts(), func(h *lab.Host) bool { return h.Name == name })
	if i < 0 {
		w.Fatalf("no host %s", name)
	}
	return w.Hosts()[i]
}

// until waits for a condition.
func (w *world) until(what string, check func(context.Context) error) {
	w.Helper()
	var last error // not that of a program which the end of the wait has killed
	err := lab.Until(w.limit(), what, func(ctx context.Context) error {
		err := check(ctx)
		if ctx.Err() == nil {
			last = err
		}
		return err
	})
	if err != nil {
		w.Fatalf("%v\nbefore that: %v", err, last)
	}
}

// run runs a command line, split at blanks, and returns its standard output.
func (w *world) run(where lab.Runner, command string) string {
	w.Helper()
	out, err := where.Exec(w.limit(), strings.Fields(command)...)
	if err != nil {
		w.Fatal(err)
	}
	return out
}

// koratctl gives a manifest to koratctl on a host.
func (w *world) koratctl(h *lab.Host, verb, manifest string) {
	w.Helper()
	if r := w.try(h, manifest, "koratctl", verb, "-f", "-"); r.status != 0 {
		w.Fatalf("koratctl %s: status %d: %s%s", verb, r.status, r.stdout, r.stderr)
	}
}

// result is how a program ended.
type result struct {
	status         int
	stdout, stderr string
}

// try runs a program that may fail.
func (w *world) try(h *lab.Host, stdin string, argv ...string) result {
	w.Helper()
	cmd := h.Command(w.limit(), argv...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.Fatalf("run %v on %s: %v", argv, h.Name, err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

func (w *world) start(h *lab.Host, flags ...string) *lab.Agent {
	w.Helper()
	agent, err := h.StartAgent(flags...)
	if err != nil {
		w.Fatal(err)
	}
	return agent
}

func (w *world) ready(agents ...*lab.Agent) {
	w.Helper()
	ctx := w.limit()
	for _, agent := range agents {
		if err := agent.WaitReady(ctx); err != nil {
			w.Fatal(err)
		}
	}
}

// notReady waits until the agent says that it is not ready, and why.
func (w *world) notReady(h *lab.Host, why string) {
	w.Helper()
	w.until("the agent of "+h.Name+" says why it is not ready", func(ctx context.Context) error {
		status, body, err := h.Get(ctx, "http://127.0.0.1:9099/readyz")
		if err == nil && (status != 503 || !strings.Contains(body, why)) {
			err = fmt.Errorf("status %d, %q: want 503 and %q", status, body, why)
		}
		return err
	})
}

func (w *world) pod(h *lab.Host, name string) *lab.Pod {
	w.Helper()
	p, err := h.AddPod(w.limit(), lab.PodConfig{Name: name})
	if err != nil {
		w.Fatal(err)
	}
	return p
}

// status is what `koratctl node status` says.
func (w *world) status(ctx context.Context, h *lab.Host) (felix.NodeStatus, error) {
	var s felix.NodeStatus
	out, err := h.Exec(ctx, "koratctl", "node", "status", "-o", "json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &s)
	}
	return s, err
}

// sessions gives those of a host with a peer: one of each family.
func (w *world) sessions(h *lab.Host, peer string) []felix.SessionStatus {
	w.Helper()
	s, err := w.status(w.limit(), h)
	if err != nil {
		w.Fatal(err)
	}
	return slices.DeleteFunc(s.Sessions, func(session felix.SessionStatus) bool { return session.Name != peer })
}

// meshed waits until each of the hosts has an established session of each family with each other, and no more.
func (w *world) meshed(hosts ...*lab.Host) {
	w.Helper()
	for _, h := range hosts {
		w.until("all sessions of "+h.Name+" are established", func(ctx context.Context) error {
			s, err := w.status(ctx, h)
			if err != nil {
				return err
			}
			up := map[string]bool{}
			for _, session := range s.Sessions {
				up[session.Name+" "+session.Address] = session.State == "Established"
			}
			want := map[string]bool{}
			for _, other := range hosts {
				if other == h {
					continue
				}
				for _, addr := range other.Addresses() {
					want[other.Name+" "+addr.String()] = true
				}
			}
			if fmt.Sprint(up) != fmt.Sprint(want) {
				return fmt.Errorf("established: %v, want %v", up, want)
			}
			return nil
		})
	}
}

// block is the /24, or of IPv6 the /122, that an address is in: the default pools' blocks are of that size.
func block(addr netip.Addr) netip.Prefix {
	if addr.Is6() {
		return netip.PrefixFrom(addr, 122).Masked()
	}
	return netip.PrefixFrom(addr, 24).Masked()
}

// hostInterface is Calico's name for the host's side of a pod of namespace default.
func hostInterface(p *lab.Pod) string {
	sum := sha1.Sum([]byte("default." + p.Name))
	return "cali" + hex.EncodeToString(sum[:])[:11]
}

// lines sorts text by line, without blanks at the ends.
func lines(text string) string {
	var all []string
	for line := range strings.Lines(text) {
		all = append(all, strings.TrimSpace(line))
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// place is what pings and is pinged.
type place struct {
	name    string
	address netip.Addr
	runner  lab.Runner
}

// places are all pods and hosts, with each of their addresses.
func (w *world) places() []place {
	var all []place
	add := func(name string, where lab.Addressed) {
		for _, addr := range where.Addresses() {
			all = append(all, place{name, addr, where})
		}
	}
	for _, h := range w.Hosts() {
		add(h.Name, h)
		for _, p := range h.Pods() {
			add(p.Name, p)
		}
	}
	return all
}

// matrix pings everything from everywhere that is of the same family, until everything answers once.
func (w *world) matrix(places []place) {
	w.Helper()
	slots := make(chan struct{}, 4)
	var all sync.WaitGroup
	for _, from := range places {
		for _, to := range places {
			if from.address.Is4() != to.address.Is4() {
				continue
			}
			all.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				if err := reach(w.limit(), from.runner, to.address); err != nil {
					w.Errorf("%s to %s (%s): %v", from.name, to.name, to.address, err)
				}
			})
		}
	}
	all.Wait()
}

// reach waits until a ping is answered.
func reach(ctx context.Context, from lab.Runner, to netip.Addr) error {
	return lab.Until(ctx, to.String()+" answers", func(ctx context.Context) error {
		_, err := lab.Ping(ctx, from, to)
		return err
	})
}
