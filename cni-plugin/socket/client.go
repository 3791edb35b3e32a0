// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"syscall"
	"time"
)

// ErrBroken says that the connection ended before the reply: the agent may or may not have done what
// was asked. Every request may be repeated on a new connection.
var ErrBroken = errors.New("connection to the agent broke")

// maxReply bounds what a client reads; NodeStatus with all its sessions and routes is the largest.
const maxReply = 16 << 20

// redialMin and redialMax bound the pause between two attempts to connect.
const (
	redialMin = 10 * time.Millisecond
	redialMax = 200 * time.Millisecond
)

// Conn is a client's connection to the agent. It carries one exchange and is not for concurrent use.
type Conn struct {
	path string
	conn net.Conn
	dec  *json.Decoder
	read *meteredReader
}

// Dial connects to the agent's socket, and waits for an agent that is absent or busy until ctx is done.
// It tries at least once. Its error is then an *Error with CodeTryAgainLater.
func Dial(ctx context.Context, path string) (*Conn, error) {
	if err := CheckPath(path); err != nil {
		return nil, fmt.Errorf("agent's socket %w", err)
	}
	pause := redialMin
	for {
		raw, err := connect(path)
		if err == nil {
			metered := &meteredReader{r: raw}
			return &Conn{path: path, conn: raw, dec: json.NewDecoder(metered), read: metered}, nil
		}
		if !transient(err) {
			return nil, fmt.Errorf("connect to the agent: %w", err)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, absent(path, err)
		case <-timer.C:
		}
		pause = min(2*pause, redialMax)
	}
}

// DialOnce connects to an agent that is there. Its error is otherwise an *Error with CodeTryAgainLater.
func DialOnce(path string) (*Conn, error) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return Dial(ctx, path)
}

// connect tries once. Connecting to a Unix socket does not block: a full backlog is EAGAIN.
func connect(path string) (net.Conn, error) {
	return new(net.Dialer).DialContext(context.Background(), "unix", path)
}

// transient says whether an agent that starts or catches up would end the error.
func transient(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EAGAIN)
}

func absent(path string, cause error) *Error {
	return &Error{
		Code:    CodeTryAgainLater,
		Message: "no agent answers on " + path + ": start korat-node on this host, or say where it listens (\"socket\" in the network configuration, --agent-socket of koratctl)",
		Details: cause.Error(),
	}
}

// Call sends one request and waits for its reply. A refusal by the agent is an *Error; a connection
// that ended before the reply is ErrBroken; ctx's end is an *Error with CodeTryAgainLater. After
// anything but a refusal the Conn is of no more use.
func (c *Conn) Call(ctx context.Context, req Request) (Reply, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	reply, err := c.exchange(req)
	switch {
	case err == nil && reply.Error != nil:
		return reply, reply.Error
	case err == nil:
		return reply, nil
	case ctx.Err() != nil:
		return Reply{}, &Error{
			Code:    CodeTryAgainLater,
			Message: fmt.Sprintf("the agent on %s did not answer %s in time: see its log and /readyz", c.path, req.Verb),
			Details: err.Error(),
		}
	default:
		return Reply{}, fmt.Errorf("%s on %s: %w", req.Verb, c.path, err)
	}
}

func (c *Conn) exchange(req Request) (Reply, error) {
	// A failed write is no verdict: the agent may have refused the connection and said why.
	writeErr := json.NewEncoder(c.conn).Encode(req)
	reply, err := c.receive()
	if err != nil && writeErr != nil {
		return Reply{}, fmt.Errorf("%w: %w", ErrBroken, writeErr)
	}
	return reply, err
}

// receive waits for the next Reply.
func (c *Conn) receive() (Reply, error) {
	var reply Reply
	c.read.left = maxReply
	err := c.dec.Decode(&reply)
	switch {
	case err == nil:
		return reply, nil
	case broken(err):
		return Reply{}, fmt.Errorf("%w: %w", ErrBroken, err)
	default:
		return Reply{}, fmt.Errorf("read the agent's reply: %w", err)
	}
}

// broken says whether a read ended because the other side, not the message, is at fault.
func broken(err error) bool {
	var op *net.OpError
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &op)
}

// Close ends the connection. An attachment whose Ready has not been answered is undone by the agent.
func (c *Conn) Close() error { return c.conn.Close() }

// meteredReader fails once a message is longer than its allowance.
type meteredReader struct {
	r    io.Reader
	left int
}

var errTooLong = errors.New("message too long")

func (m *meteredReader) Read(p []byte) (int, error) {
	if m.left <= 0 {
		return 0, errTooLong
	}
	n, err := m.r.Read(p[:min(len(p), m.left)])
	m.left -= n
	return n, err
}

// CheckPath refuses what cannot be a socket's address: sun_path holds 108 bytes, with a final zero.
func CheckPath(path string) error {
	const sunPath = 107
	switch {
	case len(path) == 0 || path[0] != '/':
		return fmt.Errorf("%q: must be an absolute path", path)
	case len(path) > sunPath:
		return fmt.Errorf("%q: %d bytes are too many: a Unix socket's path has at most %d", path, len(path), sunPath)
	}
	return nil
}
