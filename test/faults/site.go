// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"korat/api/store/etcd/embedded"
	"korat/test/lab"
)

// EtcdWord is the argument that makes a program of this package an etcd server, through ServeEtcd.
const EtcdWord = "serve-etcd"

// etcdListen is where a Site's first host serves etcd: where the files of lab.Cluster say.
const etcdListen = "192.168.100.100:2379"

// ServeEtcd is an etcd server with the files that lab.Cluster writes. It runs until SIGTERM.
func ServeEtcd(log io.Writer) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	server, err := embedded.Start(ctx, embedded.Config{
		Dir: "/var/lib/korat/etcd", Listen: etcdListen,
		CAFile: "/etc/korat/tls/ca.pem", CertFile: "/etc/korat/tls/node.pem", KeyFile: "/etc/korat/tls/node-key.pem",
		Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		return err
	}
	defer server.Stop()
	return server.Wait(ctx)
}

// Site is a cluster whose datastore is a process of its own, on the first host. Whoever kills something through it
// starts it again, as a service manager would.
type Site struct {
	*lab.Cluster
	mu        sync.Mutex
	datastore *lab.Process
	agents    map[*lab.Host]*lab.Agent
}

// NewSite makes the hosts, starts datastore and agents, and waits until all are ready.
func NewSite(ctx context.Context, config lab.ClusterConfig) (*Site, error) {
	c, err := lab.NewCluster(ctx, config)
	if err != nil {
		return nil, err
	}
	s := &Site{Cluster: c, agents: map[*lab.Host]*lab.Agent{}}
	err = s.StartDatastore()
	for _, h := range c.Hosts() {
		if err == nil {
			err = s.StartAgent(h)
		}
	}
	for _, h := range c.Hosts() {
		if err == nil {
			err = s.Agent(h).WaitReady(ctx)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make site: %w", err), c.Close())
	}
	return s, nil
}

// StartDatastore starts etcd's process.
func (s *Site) StartDatastore() error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("start datastore: %w", err)
	}
	p, err := s.Hosts()[0].Start("etcd", self, EtcdWord)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.datastore = p
	return nil
}

// StartAgent starts a host's agent as a client of the datastore.
func (s *Site) StartAgent(h *lab.Host) error {
	agent, err := h.StartAgent("--datastore=etcd", "--etcd-endpoints=https://"+etcdListen)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.agents[h] = agent
	return nil
}

// Datastore is etcd's process of the moment, Agent that of a host's agent.
func (s *Site) Datastore() *lab.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.datastore
}

// Agent is the process of a host's agent.
func (s *Site) Agent(h *lab.Host) *lab.Agent {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.agents[h]
}

// KillDatastore kills etcd with SIGKILL.
func (s *Site) KillDatastore() error { return s.Datastore().Kill() }

// KillSpeaker kills a host's speaker with SIGKILL; the agent starts the next one. There may be none at the moment.
func (s *Site) KillSpeaker(h *lab.Host) error {
	for _, pid := range h.Pids("korat-node", "speaker") {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("kill speaker of %s: %w", h.Name, err)
		}
	}
	return nil
}

// RestartAgent kills a host's agent with SIGKILL and starts the next.
func (s *Site) RestartAgent(h *lab.Host) error {
	if err := s.Agent(h).Kill(); err != nil {
		return err
	}
	return s.StartAgent(h)
}

// WaitReady waits until every agent is ready.
func (s *Site) WaitReady(ctx context.Context) error {
	var errs []error
	for _, h := range s.Hosts() {
		errs = append(errs, s.Agent(h).WaitReady(ctx))
	}
	return errors.Join(errs...)
}
