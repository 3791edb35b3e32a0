// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"korat/test/lab"
	"korat/test/lab/sandbox"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == EtcdWord {
		if err := ServeEtcd(os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(sandbox.Main(m.Run))
}

// binDir is where hack/build leaves the programs.
const binDir = "../../build"

// patience bounds every single wait.
const patience = 60 * time.Second

// seed is FAULTS_SEED, or one made of the time. It is logged.
func seed(t *testing.T) uint64 {
	t.Helper()
	s := uint64(time.Now().UnixNano())
	if text := os.Getenv("FAULTS_SEED"); text != "" {
		var err error
		if s, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("FAULTS_SEED: %v", err)
		}
	}
	t.Logf("FAULTS_SEED=%d repeats this", s)
	return s
}

// site makes hosts with agents that are ready, and etcd beside them.
func site(t *testing.T, hosts int, settings string) *Site {
	t.Helper()
	for _, name := range []string{"korat-node", "korat", "koratctl"} {
		if _, err := os.Stat(binDir + "/" + name); err != nil {
			t.Fatalf("%v: run hack/build first", err)
		}
	}
	s, err := NewSite(limit(t), lab.ClusterConfig{
		Config: lab.Config{Dir: t.TempDir(), BinDir: binDir, Families: lab.Dual}, Hosts: hosts, Settings: settings,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			explain(t, s.Cluster)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// explain logs what a person would look at first.
func explain(t *testing.T, c *lab.Cluster) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, h := range c.Hosts() {
		for _, command := range []string{
			"ip route", "koratctl node status --timeout=1s", "tail -n 60 " + c.Dir() + "/" + h.Name + "-" + lab.AgentLog + ".log",
		} {
			out, err := h.Exec(ctx, "sh", "-c", command)
			if err != nil {
				out += err.Error()
			}
			t.Logf("%s# %s\n%s", h.Name, command, out)
		}
	}
}

// limit gives a context for one wait.
func limit(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// TestChurn lets 200 pods come and go three times while agent, speaker and etcd are killed.
func TestChurn(t *testing.T) {
	s := site(t, 1, "")
	churn := &Soak{Config: Config{
		Site: s, Seed: seed(t), Pods: 200, Victims: s.Hosts(), Hurry: 4, Patience: 2 * patience, Out: t.Output(),
		Kills: map[string]int{"agent": 2, "speaker": 1, "etcd": 2},
	}}
	if err := churn.Prepare(limit(t)); err != nil {
		t.Fatal(err)
	}
	const rounds = 3
	for round := range rounds {
		if err := churn.Round(t.Context(), round); err != nil {
			t.Fatal(err)
		}
		churn.Progress(round+1, rounds)
	}
	if doubles := churn.Ledger.Doubles(); len(doubles) > 0 {
		t.Errorf("%d doubles: %v", len(doubles), doubles)
	}
	for what, want := range churn.Kills {
		if have := churn.Deaths[what]; have != rounds*want {
			t.Errorf("%s was killed %d times, want %d", what, have, rounds*want)
		}
	}
}

// TestOutage has the datastore away for 15 seconds; hack/soak has it away for a minute.
func TestOutage(t *testing.T) {
	s := site(t, 2, "")
	var ledger Ledger
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	if err := s.Outage(ctx, 15*time.Second, &ledger); err != nil {
		t.Fatal(err)
	}
	if doubles := ledger.Doubles(); len(doubles) > 0 || ledger.Given() < 20 {
		t.Errorf("%d addresses were given, twice: %v", ledger.Given(), doubles)
	}
}
