// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"korat/api"
	"korat/test/lab"
	"korat/test/lab/sandbox"
	"korat/test/probe"
	"korat/test/scenario"
)

func TestMain(m *testing.M) { os.Exit(sandbox.Main(m.Run)) }

// patience bounds every single wait but that for a table.
const patience = 45 * time.Second

// binDir is where hack/build leaves the programs.
const binDir = "../../build"

// world is the cluster of the scenarios.
type world struct {
	*lab.Cluster
	places map[scenario.Place]*probe.Place
}

// newWorld makes the cluster with its pods and their labels.
func newWorld(t *testing.T) *world {
	t.Helper()
	for _, name := range []string{"korat-node", "korat", "koratctl"} {
		if _, err := os.Stat(binDir + "/" + name); err != nil {
			t.Fatalf("%v: run hack/build first", err)
		}
	}
	c, err := lab.NewCluster(t.Context(), lab.ClusterConfig{
		Config:   lab.Config{Dir: t.TempDir(), BinDir: binDir, Families: lab.Dual},
		Hosts:    len(scenario.Hosts()),
		Settings: fmt.Sprintf("default-pool-cidr: %s\ndefault-pool6-cidr: %s\n", scenario.Pool(api.IPv4), scenario.Pool(api.IPv6)),
	})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Cluster: c, places: map[scenario.Place]*probe.Place{}}
	t.Cleanup(func() {
		for _, p := range w.places {
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		}
		if t.Failed() {
			w.show(t, "koratctl node status --timeout=1s", "ip route", "ip -6 route")
			for _, a := range w.Agents {
				log, err := a.Log()
				lines := strings.SplitAfter(log, "\n")
				t.Logf("%s: %s %v", a.Host.Name, strings.Join(lines[max(0, len(lines)-60):], ""), err)
			}
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := w.fill(limit(t)); err != nil {
		t.Fatal(err)
	}
	return w
}

// limit gives a context for one wait.
func limit(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// show logs what commands print on each host.
func (w *world) show(t *testing.T, commands ...string) {
	t.Helper()
	for _, h := range w.Hosts() {
		for _, command := range commands {
			out, err := h.Exec(context.Background(), strings.Fields(command)...)
			if err != nil {
				out += err.Error()
			}
			t.Logf("%s# %s\n%s", h.Name, command, out)
		}
	}
}

// fill starts the agents, and adds the pods and the labels that scenarios begin with.
func (w *world) fill(ctx context.Context) error {
	if err := w.StartAgents(); err != nil {
		return err
	}
	if err := w.WaitReady(ctx); err != nil {
		return err
	}
	pods := scenario.Pods()
	errs := make([]error, len(pods))
	var all sync.WaitGroup
	var mu sync.Mutex
	for i, pod := range pods {
		all.Go(func() {
			p, err := w.add(ctx, pod)
			mu.Lock()
			defer mu.Unlock()
			if errs[i] = err; err == nil {
				w.places[pod.Place()] = p
			}
		})
	}
	all.Wait()
	for _, h := range w.Hosts() {
		p, err := answering(h.Name, h)
		if err != nil {
			return err
		}
		w.places[scenario.Place("host/"+h.Name)] = p
	}
	for _, namespace := range scenario.Namespaces() {
		errs = append(errs, w.do(ctx, scenario.Action{Verb: scenario.Label, Text: "namespace " + namespace + " ns=" + namespace}))
	}
	return errors.Join(errs...)
}

// add makes a pod.
func (w *world) add(ctx context.Context, pod scenario.Pod) (*probe.Place, error) {
	for _, h := range w.Hosts() {
		if h.Name != pod.Host {
			continue
		}
		place := pod.Place()
		p, err := h.AddPod(ctx, lab.PodConfig{
			Namespace: pod.Namespace, Name: pod.Name, Labels: pod.Labels(), Ports: pod.Ports(),
			Args: fmt.Sprintf("IP=%s,%s", place.Address(api.IPv4), place.Address(api.IPv6)),
		})
		if err != nil {
			return nil, err
		}
		return answering(string(place), p)
	}
	return nil, fmt.Errorf("add pod %s: there is no host %s", pod.Place(), pod.Host)
}

// answering makes a pod or host answer and ask.
func answering(name string, where interface {
	Addresses() []netip.Addr
	Inside(func() error) error
},
) (*probe.Place, error) {
	return probe.Open(probe.Config{Name: name, Addresses: where.Addresses(), Ports: scenario.Ports(), Inside: where.Inside})
}

// do does an action with koratctl.
func (w *world) do(ctx context.Context, a scenario.Action) error {
	if a.Verb == scenario.Apply {
		return w.koratctl(ctx, a.Text, "apply", "-f", "-")
	}
	for _, line := range a.Lines() {
		var args []string
		if a.Verb == scenario.Delete {
			namespace, name, _ := strings.Cut(line, "/")
			args = []string{"delete", "knp", name, "-n", namespace}
		} else {
			words := strings.Fields(line)
			args = append([]string{"label", "--overwrite", words[0]}, words[1:]...)
			if namespace, name, ok := strings.Cut(words[1], "/"); ok {
				args[3] = name
				args = append(args, "-n", namespace)
			}
		}
		if err := w.koratctl(ctx, "", args...); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) koratctl(ctx context.Context, stdin string, args ...string) error {
	cmd := w.Hosts()[0].Command(ctx, append([]string{"koratctl"}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("koratctl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
