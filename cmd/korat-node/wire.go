// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"

	"korat/api"
	"korat/api/store"
	"korat/api/store/etcd"
	"korat/api/store/etcd/embedded"
	"korat/bgp/speaker"
	"korat/cni-plugin/socket"
	"korat/felix"
	"korat/felix/calc"
	"korat/felix/endpoint"
	"korat/felix/kernel"
	"korat/felix/mirror"
	"korat/felix/packetlog"
	"korat/felix/revocation"
	"korat/ipam"
	"korat/ipam/journal"
)

// run is the program's graph: it makes every part, starts those that have a life of their own and
// runs the loop until ctx is done.
func run(ctx context.Context, s settings, cfg felix.Config, log *slog.Logger) error {
	// Before anything in it is believed.
	if err := socket.CheckDirectory(s.runDir); err != nil {
		return fmt.Errorf("--run-dir: %w", err)
	}
	record, err := s.openRecord(log)
	if err != nil {
		return err
	}
	defer record.Close()
	host, err := kernel.Open()
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer host.Close()
	chains := host.AutoChains(log)
	defer chains.Close()
	plugins, err := socket.Listen(s.agentSocket())
	if err != nil {
		return err
	}
	defer plugins.Close()
	plugins.Log = log
	health, err := s.listenHTTP(ctx)
	if err != nil {
		return err
	}
	defer health.Close()
	data, err := s.datastore.open(ctx, log)
	if err != nil {
		return err
	}
	defer data.close()

	brief := data.Brief(newDigest(cfg.Node).restore)
	follower := follow(brief, log)
	keeper := ipam.NewKeeper(ranges{data.Store, brief}, cfg.Node, log)
	copies := mirror.New(data, cfg.Node, log)
	client, supervisor, err := s.speaker(log)
	if err != nil {
		return err
	}
	revoker := revocation.New(host.Conntrack(), log)
	parts := felix.Parts{
		Datastore: follower, Store: data, Kernel: host, Speaker: client, Supervisor: client, Keeper: keeper, Mirror: copies, Journal: record, Log: log,
		Tables: tables(host, chains), Revoker: revoker, Reports: reports(host),
	}
	lives := []func(context.Context) error{client.Run, data.server}
	if supervisor != nil {
		lives = append(lives, supervisor.Run)
	}
	agent := felix.New(cfg, parts)
	log.Info("agent starts", "node", cfg.Node, "version", version, "datastore", s.datastore.kind)
	return together(ctx, append(lives, agent.Run,
		func(ctx context.Context) error { follower.Run(ctx); return nil },
		func(ctx context.Context) error { keeper.Run(ctx); return nil },
		func(ctx context.Context) error { copies.Run(ctx); return nil },
		func(ctx context.Context) error { revoker.Run(ctx); return nil },
		func(ctx context.Context) error { return plugins.Serve(ctx, agent) },
		func(ctx context.Context) error { serveHTTP(ctx, health, agent.Handler(), log); return nil },
	)...)
}

// follow keeps a Snapshot of all kinds, and which objects of those that policies heed have changed.
func follow(data store.Source, log *slog.Logger) *store.Follower {
	f := store.NewFollower(data, api.Kinds(), log)
	f.Track = calc.Heeds
	return f
}

func (s settings) listenHTTP(ctx context.Context) (net.Listener, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", s.httpAddress)
	if err != nil {
		return nil, fmt.Errorf("--http-address: %w", err)
	}
	return l, nil
}

// reports gives what opens the packet log that rules report to.
func reports(host *kernel.Handle) func() (packetlog.Source, error) {
	return func() (packetlog.Source, error) {
		r, err := host.Reports(felix.ReportGroup)
		if err != nil {
			return nil, err
		}
		return r, nil
	}
}

func tables(host *kernel.Handle, chains *kernel.AutoChains) felix.Tables {
	return felix.Tables{
		Links: host.Links(), Sysctls: host.Sysctls(), Sets: host.Sets(0), Chains: chains,
		Neighbours: host.Neighbours(), Routes: host.Routes(),
	}
}

// openRecord opens the record of attached pods.
func (s settings) openRecord(log *slog.Logger) (*journal.Journal[endpoint.Endpoint], error) {
	record, err := journal.Open[endpoint.Endpoint](s.journalFile())
	if err != nil {
		return nil, fmt.Errorf("record of attached pods: %w", err)
	}
	for _, damage := range record.Status().Damage {
		log.Error("record of attached pods is damaged", "file", s.journalFile(), "damage", damage.String())
	}
	return record, nil
}

// together runs every part until ctx is done or one of them fails, and gives the first failure.
func together(ctx context.Context, parts ...func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	var mu sync.Mutex
	var first error
	for _, part := range parts {
		running.Go(func() {
			if err := part(ctx); err != nil && ctx.Err() == nil {
				mu.Lock()
				first = err
				mu.Unlock()
				cancel(err)
			}
		})
	}
	running.Wait()
	return first
}

// unlessTold gives the error of what was not called off: to end as told is no failure, in the midst of starting either.
func unlessTold(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// datastore is an open datastore.
type datastore struct {
	*etcd.Store
	// server fails when the embedded server dies: the service manager starts the agent anew, and it with it.
	server func(context.Context) error
	close  func()
}

// open connects to the datastore, and starts it first where it is embedded.
func (d datastoreSettings) open(ctx context.Context, log *slog.Logger) (datastore, error) {
	server, stop := untilDone, func() {}
	endpoints := d.endpoints
	if d.kind == "embedded" {
		srv, err := embedded.Start(ctx, embedded.Config{
			Dir: d.embeddedDir, Listen: d.embeddedListen,
			CAFile: d.ca, CertFile: d.cert, KeyFile: d.key, Log: log,
		})
		if err != nil {
			return datastore{}, fmt.Errorf("--embedded-listen, --embedded-dir, --etcd-ca, --etcd-cert, --etcd-key: %w", err)
		}
		server, stop, endpoints = srv.Wait, srv.Stop, []string{srv.Endpoint()}
	}
	client, err := etcd.New(etcd.Config{
		Endpoints: endpoints, CAFile: d.ca, CertFile: d.cert, KeyFile: d.key,
		Username: d.username, PasswordFile: d.passwordFile, Log: log,
	})
	if err != nil {
		stop()
		return datastore{}, fmt.Errorf("--etcd-endpoints, --etcd-ca, --etcd-cert, --etcd-key, --etcd-username, --etcd-password-file: %w", err)
	}
	return datastore{client, server, func() { _ = client.Close(); stop() }}, nil
}

// untilDone is the life of what is not ours to watch.
func untilDone(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// speaker gives the client of the speaker, and its supervisor where keeping it alive is ours to do.
func (s settings) speaker(log *slog.Logger) (*speaker.Client, *speaker.Supervisor, error) {
	path := s.speakerSocket
	var supervisor *speaker.Supervisor
	if path == "" {
		path = s.ownSpeakerSocket()
		self, err := os.Executable()
		if err != nil {
			return nil, nil, fmt.Errorf("find our own program: %w", err)
		}
		supervisor = speaker.NewSupervisor(speaker.SupervisorConfig{
			Command: []string{self, "speaker", "--socket", path, "--log-level", s.log.level, "--log-format", s.log.format},
			Socket:  path, Log: log,
		})
	} else if err := checkSpeakerSocket(path); err != nil {
		return nil, nil, fmt.Errorf("--speaker-socket: %w", err)
	}
	return speaker.New(speaker.Config{Socket: path, StatusFile: statusFile(path), Log: log}), supervisor, nil
}
