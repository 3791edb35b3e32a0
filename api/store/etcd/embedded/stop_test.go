// SPDX-License-Identifier: Apache-2.0

package embedded_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"korat/api/store/etcd/embedded"
)

// hindrance is a client of a server that is to stop.
type hindrance struct {
	*testing.T
	address string
	conn    *grpc.ClientConn
	// read counts the bytes that have come from the server.
	read atomic.Int64
}

// TestStop stops servers whose clients do what must not hold them up; another server takes the directory over.
func TestStop(t *testing.T) {
	for name, tt := range map[string]struct {
		plain  bool
		hinder func(*hindrance)
	}{
		"a watch for each that ends": {false, (*hindrance).insists},
		"reads nothing":              {false, (*hindrance).isDeaf},
		"says nothing":               {false, (*hindrance).isMute},
		"without TLS, says nothing":  {true, (*hindrance).isMute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ours := newAuthority(t)
			serverCert := ours.issue(t, "server")
			cfg := embedded.Config{Dir: t.TempDir(), CAFile: ours.file, CertFile: serverCert.cert, KeyFile: serverCert.key}
			if tt.plain {
				cfg = embedded.Config{Dir: cfg.Dir}
			}
			server := start(t, cfg)
			_, address, _ := strings.Cut(server.Endpoint(), "://")
			h := &hindrance{T: t, address: address}
			h.connect(ours)
			tt.hinder(h)
			stopped := make(chan struct{})
			go func() {
				server.Stop()
				close(stopped)
			}()
			select {
			case <-stopped:
			case <-time.After(time.Minute):
				t.Fatal("it does not stop")
			}
			start(t, cfg)
		})
	}
}

// connect prepares a connection whose windows are of 64 KiB.
func (h *hindrance) connect(ours authority) {
	h.Helper()
	own := ours.issue(h.T, "client")
	pair, err := tls.LoadX509KeyPair(own.cert, own.key)
	if err != nil {
		h.Fatal(err)
	}
	text, err := os.ReadFile(ours.file)
	if err != nil {
		h.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(text)
	h.conn, err = grpc.NewClient("passthrough:///"+h.address,
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: trusted, Certificates: []tls.Certificate{pair}})),
		grpc.WithInitialWindowSize(64<<10),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
			return counted{c, &h.read}, err
		}))
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { _ = h.conn.Close() })
}

// counted counts what is read.
type counted struct {
	net.Conn
	bytes *atomic.Int64
}

func (c counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.bytes.Add(int64(n))
	return n, err
}

// watch opens a stream of watches with one watch, of all keys.
func (h *hindrance) watch(ctx context.Context) (pb.Watch_WatchClient, error) {
	stream, err := pb.NewWatchClient(h.conn).Watch(ctx, grpc.WaitForReady(true))
	if err != nil {
		return nil, err
	}
	create := &pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}}
	if err := stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}); err != nil {
		return nil, err
	}
	_, err = stream.Recv()
	return stream, err
}

// insists has many streams of watches, and opens another one for each that ends, until the test does.
func (h *hindrance) insists() {
	const streams = 50
	ctx, cancel := context.WithCancel(h.Context())
	var running, open sync.WaitGroup
	h.Cleanup(func() {
		cancel()
		running.Wait()
	})
	open.Add(streams)
	for range streams {
		running.Go(func() {
			opened := sync.OnceFunc(open.Done)
			for ctx.Err() == nil {
				if stream, err := h.watch(ctx); err == nil {
					opened()
					_, _ = stream.Recv() // which ends with the stream
				}
			}
		})
	}
	open.Wait()
}

// isDeaf has a watch whose events it does not read.
func (h *hindrance) isDeaf() {
	h.Helper()
	if _, err := h.watch(h.Context()); err != nil {
		h.Fatal(err)
	}
	if _, err := pb.NewKVClient(h.conn).Put(h.Context(), &pb.PutRequest{Key: []byte("large"), Value: make([]byte, 1<<20)}); err != nil {
		h.Fatal(err)
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for limit := time.After(time.Minute); h.read.Load() < 64<<10; {
		select {
		case <-tick.C:
		case <-limit:
			h.Fatalf("%d bytes have come", h.read.Load())
		}
	}
}

// isMute has a connection without a word.
func (h *hindrance) isMute() {
	h.Helper()
	c, err := (&net.Dialer{}).DialContext(h.Context(), "tcp", h.address)
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { _ = c.Close() })
}
