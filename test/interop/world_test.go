// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"korat/felix"
	"korat/test/lab"
	"korat/test/lab/sandbox"
)

func TestMain(m *testing.M) {
	// Debian keeps BIRD where not every root shell looks.
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(sandbox.Main(m.Run))
}

// patience bounds every single wait. It is below resync-interval, so that what is seen here never was
// a resync's work, and below the restart time, after which routes go anyway.
const patience = 60 * time.Second

// settings of every agent here.
const settings = "resync-interval: 2m30s\n"

// binDir is where hack/build leaves the programs.
const binDir = "../../build"

// world is a cluster with the test that it belongs to. Methods fail the test.
type world struct {
	*testing.T
	*lab.Cluster
	// birds are the hosts that run BIRD.
	birds []*bird
	// started counts processes, so that each gets a log of its own.
	started int
}

// cluster makes hosts a, b, c… with agents that are ready.
func cluster(t *testing.T, n int) *world {
	t.Helper()
	return clusterOf(t, n, lab.IPv4)
}

// clusterOf makes a cluster of one or both families, and the test run beside others from here on: most of the time all of
// them wait.
func clusterOf(t *testing.T, n int, families lab.Families) *world {
	t.Helper()
	t.Parallel()
	for _, name := range []string{"korat-node", "korat", "koratctl"} {
		if _, err := os.Stat(filepath.Join(binDir, name)); err != nil {
			t.Fatalf("%v: run hack/build first", err)
		}
	}
	c, err := lab.NewCluster(t.Context(), lab.ClusterConfig{
		Config: lab.Config{Dir: t.TempDir(), BinDir: binDir, Families: families}, Hosts: n, Settings: settings,
	})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, Cluster: c}
	t.Cleanup(func() {
		if t.Failed() {
			w.explain()
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := w.StartAgents(); err != nil {
		t.Fatal(err)
	}
	if err := w.WaitReady(w.limit()); err != nil {
		t.Fatal(err)
	}
	return w
}

// explain logs what a person would look at first.
func (w *world) explain() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, h := range w.Hosts() {
		for _, family := range []string{"-4", "-6"} {
			if out, err := h.Exec(ctx, "ip", family, "route"); err == nil {
				w.Logf("%s# ip %s route\n%s", h.Name, family, out)
			}
		}
		if out, err := h.Exec(ctx, "koratctl", "node", "status"); err == nil {
			w.Logf("%s# koratctl node status\n%s", h.Name, out)
		}
	}
	logs, err := filepath.Glob(filepath.Join(w.Dir(), "*.log"))
	if err != nil {
		w.Log(err)
	}
	for _, file := range logs {
		data, err := os.ReadFile(file)
		if err != nil {
			w.Log(err)
		}
		all := strings.Split(string(data), "\n")
		w.Logf("%s ends with\n%s", filepath.Base(file), strings.Join(all[max(0, len(all)-60):], "\n"))
	}
}

// limit gives a context for one wait.
func (w *world) limit() context.Context {
	ctx, cancel := context.WithTimeout(w.Context(), patience)
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

// nodes are the hosts that run the agent.
func (w *world) nodes() []*lab.Host {
	var all []*lab.Host
	for _, agent := range w.Agents {
		all = append(all, agent.Host)
	}
	return all
}

// until waits for a condition.
func (w *world) until(what string, check func(context.Context) error) {
	w.Helper()
	if err := lab.Until(w.limit(), what, check); err != nil {
		w.Fatal(err)
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

// shows waits until a command prints just this.
func (w *world) shows(where lab.Runner, command, want string) {
	w.Helper()
	w.until(fmt.Sprintf("%q shows %q", command, want), func(ctx context.Context) error {
		have, err := where.Exec(ctx, strings.Fields(command)...)
		if err == nil && strings.TrimSpace(have) != want {
			err = fmt.Errorf("have %q", have)
		}
		return err
	})
}

// reaches waits until a ping is answered.
func (w *world) reaches(from lab.Runner, to netip.Addr) {
	w.Helper()
	w.until(to.String()+" answers", func(ctx context.Context) error {
		_, err := lab.Ping(ctx, from, to)
		return err
	})
}

// create gives an object to koratctl on a host.
func (w *world) create(h *lab.Host, manifest string) {
	w.Helper()
	cmd := h.Command(w.limit(), "koratctl", "create", "-f", "-")
	cmd.Stdin = strings.NewReader(manifest)
	if out, err := cmd.CombinedOutput(); err != nil {
		w.Fatalf("koratctl create: %v: %s", err, out)
	}
}

func (w *world) pod(h *lab.Host, name string) *lab.Pod {
	w.Helper()
	p, err := h.AddPod(w.limit(), lab.PodConfig{Name: name})
	if err != nil {
		w.Fatal(err)
	}
	return p
}

// sessions is what `koratctl node status` says of a host's sessions, by the peer's address, and by its
// name: where a peer has sessions of both families the name is that of one.
func (w *world) sessions(ctx context.Context, h *lab.Host) (map[string]felix.SessionStatus, error) {
	out, err := h.Exec(ctx, "koratctl", "node", "status", "-o", "json")
	if err != nil {
		return nil, err
	}
	var s felix.NodeStatus
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		return nil, err
	}
	all := map[string]felix.SessionStatus{}
	for _, session := range s.Sessions {
		all[session.Name], all[session.Address] = session, session
	}
	return all, nil
}

// session waits until a host's session with a peer is as wanted.
func (w *world) session(h *lab.Host, peer, what string, want func(felix.SessionStatus) bool) felix.SessionStatus {
	w.Helper()
	var have felix.SessionStatus
	w.until(fmt.Sprintf("the session of %s with %s is %s", h.Name, peer, what), func(ctx context.Context) error {
		all, err := w.sessions(ctx, h)
		if err != nil {
			return err
		}
		have = all[peer]
		if !want(have) {
			return fmt.Errorf("have %+v", all)
		}
		return nil
	})
	return have
}

func established(s felix.SessionStatus) bool { return s.State == "Established" }

// lost is a session that has come back after it was lost so often.
func lost(times uint32) func(felix.SessionStatus) bool {
	return func(s felix.SessionStatus) bool { return established(s) && s.Flaps == times }
}

// meshed waits until every agent has a session with every other host, BIRD's included.
func (w *world) meshed() {
	w.Helper()
	for _, h := range w.nodes() {
		for _, other := range w.Hosts() {
			if other != h {
				w.session(h, other.Name, "established", established)
			}
		}
	}
}

// block is the /24 that an address is in: the default pool's blocks are of that size.
func block(addr netip.Addr) netip.Prefix { return netip.PrefixFrom(addr, 24).Masked() }

// killSpeaker kills a host's only speaker.
func (w *world) killSpeaker(h *lab.Host) {
	w.Helper()
	pids := h.Pids("korat-node", "speaker")
	if len(pids) != 1 {
		w.Fatalf("speakers on %s: %v, want one", h.Name, pids)
	}
	if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
		w.Fatal(err)
	}
}
