// SPDX-License-Identifier: Apache-2.0

// Package etcd is the datastore in etcd 3.4 or later. Objects are JSON under
// /korat/v1/<kind>/<namespace or _>/<name>; an object's resourceVersion is its key's modification
// revision.
package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"korat/api"
	"korat/api/store"
)

const (
	defaultTimeout = 5 * time.Second
	// pageSize limits what one response of a List holds.
	pageSize = 500
)

// Config says where etcd is.
type Config struct {
	// Endpoints are URLs, all http:// or all https://.
	Endpoints []string
	// CAFile holds the authorities that signed the servers' certificates; empty means the system's.
	CAFile string
	// CertFile and KeyFile are this client's certificate; both or none. They are read anew at
	// each connection, so that they can be rotated.
	CertFile, KeyFile string
	// Username and PasswordFile are a user of etcd's; both or none. The file is read anew at each
	// authentication. Without them a client certificate's common name may be the user.
	Username, PasswordFile string
	// DialTimeout limits each request, connecting included [5s].
	DialTimeout time.Duration
	Log         *slog.Logger
}

// Store is a client of etcd.
type Store struct {
	client    *clientv3.Client
	endpoints string
	timeout   time.Duration
	log       *slog.Logger
	user      *user
	course    *course
	restore   restore
}

var _ store.Store = (*Store)(nil)

// New gives a Store that connects at its first use. Close it at the end.
func New(cfg Config) (*Store, error) {
	tlsConfig, err := clientTLS(cfg)
	if err != nil {
		return nil, fmt.Errorf("configure etcd client: %w", err)
	}
	timeout := cfg.DialTimeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	u, err := newUser(cfg, timeout)
	if err != nil {
		return nil, fmt.Errorf("configure etcd client: %w", err)
	}
	s := &Store{endpoints: strings.Join(cfg.Endpoints, ", "), timeout: timeout, log: cfg.Log, user: u, course: newCourse(cfg.Log), restore: api.Restore}
	s.client, err = clientv3.New(clientv3.Config{
		Endpoints:   cfg.Endpoints,
		DialTimeout: timeout,
		// Pings find out that a server is gone where no packet says so; etcd allows one in 5 s.
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: timeout,
		// A few quick retries bridge a change of the leader; longer outages are the caller's to wait for.
		MaxUnaryRetries:    5,
		BackoffWaitBetween: 50 * time.Millisecond,
		TLS:                tlsConfig,
		Logger:             zap.NewNop(),
		DialOptions: []grpc.DialOption{
			// gRPC's own limit of two minutes would leave an agent alone long after etcd is back.
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second},
				MinConnectTimeout: timeout,
			}),
			grpc.WithChainUnaryInterceptor(u.unary(), s.course.unary(), failFast()),
			grpc.WithChainStreamInterceptor(s.openStream()),
		},
	})
	if err != nil {
		return nil, fmt.Errorf("configure etcd client: %w", err)
	}
	return s, nil
}

// failFast answers with the reason (connection refused, a certificate not trusted) while there is no
// connection; etcd's client would wait until the deadline, and tell nothing.
func failFast() grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		return invoke(ctx, method, req, reply, conn, append(opts, grpc.WaitForReady(false))...)
	}
}

// openStream prepares each stream of watches, also where etcd's client resumes them by itself.
func (s *Store) openStream() grpc.StreamClientInterceptor {
	return func(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		// A read tells the course whether this is still the datastore that was watched before.
		if _, err := s.present(ctx); err != nil {
			return nil, err
		}
		ctx, err := s.user.stream(ctx, conn)
		if err != nil {
			return nil, err
		}
		return open(ctx, desc, conn, method, opts...)
	}
}

// Close ends every connection; watches end with ErrUnavailable.
func (s *Store) Close() error {
	if err := s.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("close etcd client: %w", err)
	}
	return nil
}

// clientTLS checks that endpoints and files fit together; nil means no TLS.
func clientTLS(cfg Config) (*tls.Config, error) {
	if len(cfg.Endpoints) == 0 {
		return nil, errors.New("no endpoints: give at least one URL such as http://127.0.0.1:2379")
	}
	encrypted := 0
	for _, e := range cfg.Endpoints {
		switch {
		case strings.HasPrefix(e, "https://"):
			encrypted++
		case !strings.HasPrefix(e, "http://"):
			return nil, fmt.Errorf("endpoint %q: must begin with http:// or https://", e)
		}
	}
	switch {
	case encrypted != 0 && encrypted != len(cfg.Endpoints):
		return nil, fmt.Errorf("endpoints %q: must be all http:// or all https://", cfg.Endpoints)
	case encrypted == 0 && (cfg.CAFile != "" || cfg.CertFile != "" || cfg.KeyFile != ""):
		return nil, fmt.Errorf("endpoints %q: certificates are given, so they must begin with https://", cfg.Endpoints)
	case encrypted == 0:
		return nil, nil
	case (cfg.CertFile == "") != (cfg.KeyFile == ""):
		return nil, fmt.Errorf("certificate %q and key %q: give both or none", cfg.CertFile, cfg.KeyFile)
	}
	info := transport.TLSInfo{TrustedCAFile: cfg.CAFile, CertFile: cfg.CertFile, KeyFile: cfg.KeyFile}
	return info.ClientConfig()
}

// request limits one request in time.
func (s *Store) request(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.timeout)
}

// explain turns an error of the client into one of the contract's. ctx is the caller's.
func (s *Store) explain(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, rpctypes.ErrCompacted), errors.Is(err, store.ErrCompacted):
		return store.ErrCompacted
	case errors.Is(err, store.ErrUnavailable):
		return err
	case errors.Is(err, context.DeadlineExceeded), status.Code(err) == codes.DeadlineExceeded:
		return fmt.Errorf("%w: no answer from %s within %s", store.ErrUnavailable, s.endpoints, s.timeout)
	case s.refusedBy(err) != nil:
		return s.refusedBy(err)
	case unavailable(err):
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return err
}

// unavailable says whether an error may pass by itself.
func unavailable(err error) bool {
	if errors.Is(err, context.Canceled) || stale(err) {
		return true
	}
	code := status.Code(err)
	var e rpctypes.EtcdError
	if errors.As(err, &e) {
		code = e.Code()
	}
	// Canceled is the client's own connection being closed; Internal a stream broken off.
	return code == codes.Unavailable || code == codes.Canceled || code == codes.Internal
}
