// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// serverPatience is how long the server may take to end: it has to write to a disk. It is well below the 30 s that
	// Kubernetes gives a pod to end.
	serverPatience = 10 * time.Second
	// clientsPatience is how long calls may take to end before that, and connections after it.
	clientsPatience = 2 * time.Second
)

// Stop ends the server and its clients' connections; what was written stays in its directory. It ends in bounded time,
// whatever clients do: what does not end is logged, and ends with the process. To the data that is no more than a crash,
// which etcd is made for.
func (s *Server) Stop() {
	s.stop.Do(func() {
		disconnected, closed := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(disconnected)
			s.clients.end()
		}()
		s.ends("calls of clients", disconnected, clientsPatience)
		go func() {
			defer close(closed)
			// Close would do this only after everything else, for which it waits without a limit: without TLS for
			// whoever has connected and said nothing yet, and where the server is not ready yet until it is.
			s.etcd.Server.Stop()
			s.etcd.Close()
		}()
		if !s.ends("the server", s.etcd.Server.StopNotify(), s.patience) {
			return // and the directory stays locked
		}
		s.lock.Close()
		s.ends("connections of clients", closed, clientsPatience)
	})
}

// ends waits for a part's end, and says whether it came.
func (s *Server) ends(part string, ended <-chan struct{}, patience time.Duration) bool {
	select {
	case <-ended:
		return true
	case <-time.After(patience):
		s.log.Warn("embedded etcd does not end: left to the end of this process", "part", part, "waited", patience)
		return false
	}
}

// clients are the connections of clients, as far as they can be ended. Of itself, etcd would wait seven seconds for its
// clients to end their watches.
type clients struct {
	// grpc is what etcd serves them with; nil until it does.
	grpc atomic.Pointer[grpc.Server]
	// http holds the connections with TLS, over which grpc gets single calls; nil until there was one.
	http   atomic.Pointer[http.Server]
	ending atomic.Bool
}

// options make the gRPC server ask admit before each call.
func (c *clients) options() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			if err := c.admit(ctx); err != nil {
				return nil, err
			}
			return handle(ctx, req)
		}),
		grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
			if err := c.admit(stream.Context()); err != nil {
				return err
			}
			return handle(srv, stream)
		}),
	}
}

// admit takes note of what a call came over, and refuses it when all are to end.
func (c *clients) admit(ctx context.Context) error {
	if srv, ok := ctx.Value(http.ServerContextKey).(*http.Server); ok && c.http.Load() != srv {
		c.http.Store(srv)
	}
	if c.ending.Load() {
		return status.Error(codes.Unavailable, "the server is ending")
	}
	return nil
}

// end ends all connections. The gRPC server alone would only end the calls that come over HTTP's connections, of which it
// knows nothing, and wait until there is none; but a client whose watch has ended opens the next one at once, which would
// be served as long as the client likes. And a client that reads nothing holds up its call until its connection is
// closed.
func (c *clients) end() {
	c.ending.Store(true)
	if h := c.http.Load(); h != nil {
		_ = h.Close()
	}
	if g := c.grpc.Load(); g != nil {
		g.Stop()
	}
}
