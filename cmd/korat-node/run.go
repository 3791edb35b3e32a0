// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"korat/api"
	config "korat/cmd/settings"
	"korat/felix"
)

// settings are what `korat-node run` can be told.
type settings struct {
	nodeName, runDir, httpAddress, speakerSocket string

	resync    time.Duration
	log       logSettings
	address   addressSettings
	pool      poolSettings
	datastore datastoreSettings
}

type logSettings struct{ level, format string }

type datastoreSettings struct {
	kind                        string
	endpoints                   []string
	ca, cert, key               string
	username, passwordFile      string
	embeddedDir, embeddedListen string
}

const defaultConfigFile = "/etc/korat/korat-node.yaml"

func runCommand() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the agent",
		Long: `Run the agent of this node until SIGTERM, which leaves pods, routes and BGP sessions as they are.

Every flag can also be set by an environment variable (--node-name: KORAT_NODE_NAME) and in a YAML file
(node-name: …). The command line wins over the environment, and that over the file.`,
		Args: cobra.NoArgs,
	}
	flags := cmd.Flags()
	file := flags.String(config.Config, defaultConfigFile, "YAML file with the names of flags as keys")
	s.register(flags)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := config.Fill(flags, *file, os.LookupEnv); err != nil {
			return err
		}
		log, err := newLogger(s.log.level, s.log.format)
		if err != nil {
			return err
		}
		cfg, err := s.agentConfig()
		if err != nil {
			return err
		}
		return unlessTold(cmd.Context(), run(cmd.Context(), s, cfg, log))
	}
	return cmd
}

func (s *settings) register(f *pflag.FlagSet) {
	hostname, _ := os.Hostname()
	f.StringVar(&s.nodeName, "node-name", hostname, "this node's name in the datastore")
	f.StringVar(&s.runDir, "run-dir", "/run/korat", "directory of sockets and of the record of attached pods; must be on tmpfs and survive restarts")
	f.StringVar(&s.httpAddress, "http-address", "127.0.0.1:9099", "where /livez, /readyz and /metrics are served")
	f.StringVar(&s.log.level, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&s.log.format, "log-format", "text", "text or json")
	s.address.register(f)
	s.pool.register(f)
	f.StringVar(&s.speakerSocket, "speaker-socket", "", "socket of a speaker that runs beside the agent; empty: the agent starts one")
	f.DurationVar(&s.resync, "resync-interval", 90*time.Second, "period of full comparisons with the kernel")
	d := &s.datastore
	f.StringVar(&d.kind, "datastore", "embedded", "embedded (an etcd server inside this agent) or etcd")
	f.StringSliceVar(&d.endpoints, "etcd-endpoints", nil, "URLs of the etcd servers, e.g. https://192.0.2.1:2379")
	f.StringVar(&d.ca, "etcd-ca", "", "file with the CA certificates of etcd's servers and clients")
	f.StringVar(&d.cert, "etcd-cert", "", "file with the certificate to show to etcd (embedded: also to its clients)")
	f.StringVar(&d.key, "etcd-key", "", "file with that certificate's private key")
	f.StringVar(&d.username, "etcd-username", "", "user of etcd's, where it demands authentication")
	f.StringVar(&d.passwordFile, "etcd-password-file", "", "file with that user's password")
	f.StringVar(&d.embeddedDir, "embedded-dir", "/var/lib/korat/etcd", "data directory of the embedded etcd server")
	f.StringVar(&d.embeddedListen, "embedded-listen", "127.0.0.1:2379", "address and port of the embedded etcd server; others than loopback need TLS")
}

// agentConfig checks the settings. Every error names the flag.
func (s settings) agentConfig() (felix.Config, error) {
	cfg := felix.Config{Version: version, Resync: s.resync, Identity: felix.Identity{Node: s.nodeName}}
	node := &api.Node{}
	node.Name = s.nodeName
	if err := api.Validate(node); err != nil {
		return cfg, fmt.Errorf("--node-name: %w", err)
	}
	var err error
	if cfg.IPv4, cfg.IPv6, err = s.address.sources(); err != nil {
		return cfg, err
	}
	if s.resync < time.Second || s.resync > felix.MaxResync {
		return cfg, fmt.Errorf("--resync-interval: %s: want 1s to %s", s.resync, felix.MaxResync)
	}
	if cfg.Bootstrap, err = s.pool.bootstrap(cfg.Identity); err != nil {
		return cfg, err
	}
	cfg.Lifelines = s.datastore.lifelines()
	return cfg, s.datastore.check()
}

func (d datastoreSettings) check() error {
	switch {
	case d.kind != "embedded" && d.kind != "etcd":
		return fmt.Errorf("--datastore: %q: want embedded or etcd", d.kind)
	case d.kind == "etcd" && len(d.endpoints) == 0:
		return errors.New("--etcd-endpoints: needed with --datastore=etcd")
	case d.kind == "embedded" && len(d.endpoints) > 0:
		return errors.New("--etcd-endpoints: not with --datastore=embedded; say --datastore=etcd to use servers elsewhere")
	case (d.cert == "") != (d.key == ""):
		return errors.New("--etcd-cert, --etcd-key: both or neither")
	case (d.username == "") != (d.passwordFile == ""):
		return errors.New("--etcd-username, --etcd-password-file: both or neither")
	}
	return d.checkFiles()
}

// checkFiles reads the TLS files before anything is started that needs them.
func (d datastoreSettings) checkFiles() error {
	if d.cert != "" {
		if _, err := tls.LoadX509KeyPair(d.cert, d.key); err != nil {
			return fmt.Errorf("--etcd-cert, --etcd-key: %w", err)
		}
	}
	if d.passwordFile != "" {
		if _, err := os.ReadFile(d.passwordFile); err != nil {
			return fmt.Errorf("--etcd-password-file: %w", err)
		}
	}
	if d.ca == "" {
		return nil
	}
	text, err := os.ReadFile(d.ca)
	if err != nil {
		return fmt.Errorf("--etcd-ca: %w", err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(text) {
		return fmt.Errorf("--etcd-ca: %s holds no certificate in PEM", d.ca)
	}
	return nil
}

// serveHTTP serves the health and metrics port until ctx is done.
func serveHTTP(ctx context.Context, ln net.Listener, h http.Handler, log *slog.Logger) {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		<-ctx.Done()
		_ = srv.Close()
	}()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		log.Error("health port", "error", err)
	}
}

// runPaths are the files below the run directory.
func (s settings) agentSocket() string      { return filepath.Join(s.runDir, "agent.sock") }
func (s settings) journalFile() string      { return filepath.Join(s.runDir, "endpoints.journal") }
func (s settings) ownSpeakerSocket() string { return filepath.Join(s.runDir, "speaker.sock") }
