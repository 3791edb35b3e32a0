// SPDX-License-Identifier: Apache-2.0

// Package embedded runs an etcd server inside the agent, so that plain hosts need no other
// program. It is a cluster of one member: its data directory is to be backed up, and its host is a
// single point of failure for changes (not for traffic).
//
// The history is compacted every hour. The database may grow to 2 GiB, etcd's own default; beyond
// it writes are refused until it is compacted and defragmented with etcdctl, which a Kubernetes-sized
// cluster does not come near.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

const (
	defaultListen = "127.0.0.1:2379"
	defaultName   = "korat"
	quota         = 2 << 30
	// lockFile keeps two agents from one directory; etcd itself would wait without end.
	lockFile = "korat.lock"
)

// Config says how the server runs.
type Config struct {
	// Dir is the data directory; it is made if it does not exist.
	Dir string
	// Listen is the address and port for clients [127.0.0.1:2379]. What is not loopback needs CAFile,
	// CertFile and KeyFile.
	Listen string
	// CAFile makes the server demand clients' certificates signed by this authority. CertFile and KeyFile
	// are the server's own.
	CAFile, CertFile, KeyFile string
	// Name is the member's name ["korat"].
	Name string
	Log  *slog.Logger
}

// Server is a running etcd server.
type Server struct {
	etcd    *embed.Etcd
	lock    *os.File
	scheme  string
	clients clients
	log     *slog.Logger
	// patience is how long the server may take to stop.
	patience time.Duration
	stop     sync.Once
}

// Start starts the server and returns once it answers.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Listen == "" {
		cfg.Listen = defaultListen
	}
	if cfg.Name == "" {
		cfg.Name = defaultName
	}
	s, err := start(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("start embedded etcd in %s on %s: %w", cfg.Dir, cfg.Listen, err)
	}
	return s, nil
}

func start(ctx context.Context, cfg Config) (*Server, error) {
	etcdConfig, err := serverConfig(cfg)
	if err != nil {
		return nil, err
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s := &Server{lock: lock, scheme: etcdConfig.ListenClientUrls[0].Scheme, log: cfg.Log, patience: serverPatience}
	etcdConfig.ServiceRegister = s.clients.grpc.Store
	etcdConfig.GRPCAdditionalServerOptions = s.clients.options()
	if s.etcd, err = embed.StartEtcd(etcdConfig); err != nil {
		lock.Close()
		return nil, err
	}
	select {
	case <-s.etcd.Server.ReadyNotify():
		return s, nil
	case err = <-s.etcd.Err():
	case <-ctx.Done():
		err = ctx.Err()
	}
	s.Stop()
	return nil, err
}

// Endpoint gives the URL for a client on this host.
func (s *Server) Endpoint() string {
	host, port, err := net.SplitHostPort(s.etcd.Clients[0].Addr().String())
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return s.scheme + "://" + net.JoinHostPort(host, port)
}

// Wait waits until the server ends of itself, and says why. It gives nil once ctx is done.
func (s *Server) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.etcd.Err():
		if err != nil {
			return fmt.Errorf("embedded etcd: %w", err)
		}
	case <-s.etcd.Server.StopNotify():
	}
	if ctx.Err() != nil {
		return nil
	}
	return errors.New("embedded etcd has stopped: its messages in the log say why")
}

// serverConfig checks the configuration and gives it in etcd's terms.
func serverConfig(cfg Config) (*embed.Config, error) {
	listen, err := listenURL(cfg)
	if err != nil {
		return nil, err
	}
	if cfg.Dir == "" {
		return nil, errors.New("no data directory: name one that survives a reboot, such as /var/lib/korat/etcd")
	}
	c := embed.NewConfig()
	c.Name = cfg.Name
	c.Dir = cfg.Dir
	c.ListenClientUrls = []url.URL{*listen}
	c.AdvertiseClientUrls = []url.URL{*listen}
	// A cluster of one has nobody to hear: without a peer listener, there is no port to collide on.
	// The advertised peer URL is only a name.
	c.ListenPeerUrls = nil
	c.InitialCluster = c.InitialClusterFromName(cfg.Name)
	if listen.Scheme == "https" {
		c.ClientTLSInfo = transport.TLSInfo{
			CertFile: cfg.CertFile, KeyFile: cfg.KeyFile, TrustedCAFile: cfg.CAFile, ClientCertAuth: cfg.CAFile != "",
		}
	}
	c.AutoCompactionMode = embed.CompactorModePeriodic
	c.AutoCompactionRetention = "1h"
	c.QuotaBackendBytes = quota
	c.EnableGRPCGateway = false
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(core{log: cfg.Log}))
	return c, nil
}

// listenURL checks that nobody on the network can reach the server without a certificate.
func listenURL(cfg Config) (*url.URL, error) {
	host, port, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen address %q: must be address:port, such as %q", cfg.Listen, defaultListen)
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	addr, err := netip.ParseAddr(host)
	if err != nil || addr.IsLoopback() && addr.Zone() != "" {
		return nil, fmt.Errorf("listen address %q: %q must be an IP address, such as 127.0.0.1 or 0.0.0.0", cfg.Listen, host)
	}
	if (cfg.CertFile == "") != (cfg.KeyFile == "") {
		return nil, fmt.Errorf("certificate %q and key %q: give both or none", cfg.CertFile, cfg.KeyFile)
	}
	if cfg.CAFile != "" && cfg.CertFile == "" {
		return nil, fmt.Errorf("authority %q without certificate and key: give all three", cfg.CAFile)
	}
	if !addr.IsLoopback() && cfg.CAFile == "" {
		return nil, fmt.Errorf("listen address %q: whoever can reach it could change the cluster: "+
			"give an authority, a certificate and a key, or listen on %s", cfg.Listen, defaultListen)
	}
	u := &url.URL{Scheme: "http", Host: net.JoinHostPort(host, port)}
	if cfg.CertFile != "" {
		u.Scheme = "https"
	}
	return u, nil
}

// lockDir makes the directory and locks it against other agents. The kernel drops the lock with
// the process.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	// A plain etcd server on this directory locks only its database.
	if db, err := lockPath(filepath.Join(dir, "member", "snap", "db"), os.O_RDWR); err == nil {
		db.Close()
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return lockPath(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR)
}

func lockPath(path string, flag int) (*os.File, error) {
	f, err := os.OpenFile(path, flag, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s is locked: another process uses the data directory; stop it or use another directory", path)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}
