// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	// batchSize is the number of messages per send. More are not quicker, and the kernel's answers to
	// so many fit into the socket's buffer whatever goes wrong.
	batchSize = 128
	// batchBytes ends a batch of long messages: the kernel takes no send longer than the socket's send
	// buffer (208 KiB).
	batchBytes = 64 << 10
	// dumpTries bounds how often a dump that the kernel interrupted is begun anew.
	dumpTries = 10
	// socketBuffer is the size of a socket's receive buffer.
	socketBuffer = 4 << 20
	// receiveSize is more than the kernel ever puts into one receive (32 KiB).
	receiveSize = 64 << 10
	// maxNetlinkErrno is beyond the kernel's MAX_ERRNO (4095) and the errors of IP sets, which begin at 4096.
	maxNetlinkErrno = 8191
)

var (
	errInterrupted = errors.New("the kernel's table kept changing while it was read")
	errNoAnswer    = errors.New("no answer from the kernel")
)

// conn is a netlink socket for requests. It stays in the namespace in which it was made.
type conn struct {
	mu   sync.Mutex
	fd   int
	port uint32
	seq  uint32
	out  buffer
	in   []byte
}

// dial opens a socket for a netlink protocol in the calling thread's network namespace.
func dial(protocol int) (*conn, error) {
	fd, port, err := socket(protocol, 0)
	if err != nil {
		return nil, err
	}
	c := &conn{fd: fd, port: port, in: make([]byte, receiveSize)}
	// Answers are there when send returns; the time-out is for the case that they were dropped.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}); err != nil {
		return nil, errors.Join(fmt.Errorf("set netlink time-out: %w", err), unix.Close(fd))
	}
	return c, nil
}

// socket opens a socket for a netlink protocol that hears the given groups (a bit mask), and gives its port
// number, which the kernel puts into notices of changes that were asked for through it.
func socket(protocol int, groups uint32) (fd int, port uint32, err error) {
	fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return 0, 0, fmt.Errorf("open netlink socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		return 0, 0, errors.Join(fmt.Errorf("bind netlink socket: %w", err), unix.Close(fd))
	}
	addr, err := unix.Getsockname(fd)
	if err != nil {
		return 0, 0, errors.Join(fmt.Errorf("read netlink port: %w", err), unix.Close(fd))
	}
	// The options make errors readable (Linux 4.12), let the kernel filter dumps (4.20), and give bursts
	// room; without them everything still works, as what is received is filtered here too.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer)
	return fd, addr.(*unix.SockaddrNetlink).Pid, nil
}

// dump asks for a whole table. each is called for every message, and start before the first of them:
// again if the kernel says that the table changed meanwhile and the dump is begun anew.
func (c *conn) dump(ctx context.Context, encode func(*buffer), start func(), each func(message)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for range dumpTries {
		if err := ctx.Err(); err != nil {
			return err
		}
		c.out.reset()
		encode(&c.out)
		c.seq++
		c.out.end(c.seq)
		if err := c.send(); err != nil {
			return err
		}
		start()
		interrupted, err := c.collect(context.Background(), each)
		if err == nil && interrupted || errors.Is(err, unix.EINTR) {
			continue
		}
		return err
	}
	return errInterrupted
}

// collect reads the answer to a dump until its end. A conn on which it was broken off by ctx is of no more use.
func (c *conn) collect(ctx context.Context, each func(message)) (interrupted bool, err error) {
	for {
		b, err := c.receive()
		if err = cmp.Or(err, ctx.Err()); err != nil {
			return interrupted, err
		}
		// Not messages: in a dump of many routes a call per message shows.
		for m, rest, ok := nextMessage(b); ok; m, rest, ok = nextMessage(rest) {
			if m.seq != c.seq {
				continue
			}
			interrupted = interrupted || m.flags&unix.NLM_F_DUMP_INTR != 0
			switch m.typ {
			case unix.NLMSG_DONE, unix.NLMSG_ERROR:
				return interrupted, errorOf(m)
			default:
				each(m)
			}
		}
	}
}

// get asks for one entry and hands on the answer.
func (c *conn) get(encode func(*buffer), each func(message)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out.reset()
	encode(&c.out)
	c.seq++
	c.out.acknowledge()
	c.out.end(c.seq)
	if err := c.send(); err != nil {
		return err
	}
	_, err := c.collect(context.Background(), each)
	return err
}

// changes are n messages that change one table.
type changes struct {
	n int
	// encode appends the i-th message, or gives an error.
	encode func(b *buffer, i int) error
	// failed is called for each change that could not be made.
	failed func(i int, err error)
	// count counts the messages that were sent.
	count *atomic.Uint64
}

// write sends changes, batchSize of them at a time. Only the last message of a batch asks for an
// acknowledgement; errors come back for any. The error returned leaves all of them in doubt.
func (c *conn) write(ctx context.Context, ch changes) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for next := 0; next < ch.n; {
		if err := ctx.Err(); err != nil {
			return err
		}
		var sent []int
		if sent, next = c.encodeBatch(ch, next); len(sent) == 0 {
			continue
		}
		if err := c.writeBatch(ch, sent); err != nil {
			return err
		}
	}
	return nil
}

// writeBatch sends what is in the buffer, and hears the answers.
func (c *conn) writeBatch(ch changes, sent []int) error {
	c.out.acknowledge()
	ch.count.Add(uint64(len(sent)))
	if err := c.send(); err != nil {
		return err
	}
	for {
		b, err := c.receive()
		if err != nil {
			return err
		}
		if c.hearBatch(ch, sent, b) {
			return nil
		}
	}
}

// encodeBatch puts changes into the buffer and gives those that are there, and the first of the next batch.
// The last one has the current sequence number.
func (c *conn) encodeBatch(ch changes, from int) (sent []int, next int) {
	c.out.reset()
	sent = make([]int, 0, min(batchSize, ch.n-from))
	i := from
	for ; i < ch.n && i-from < batchSize && len(c.out.b) < batchBytes; i++ {
		start, last := len(c.out.b), c.out.last
		if err := ch.encode(&c.out, i); err != nil {
			c.out.b, c.out.last = c.out.b[:start], last
			ch.failed(i, err)
			continue
		}
		c.seq++
		c.out.end(c.seq)
		sent = append(sent, i)
	}
	return sent, i
}

// hearBatch takes the errors out of a datagram; it is true once the last change's answer was there.
func (c *conn) hearBatch(ch changes, sent []int, b []byte) bool {
	first := c.seq + 1 - uint32(len(sent))
	for m := range messages(b) {
		at := m.seq - first
		if m.typ != unix.NLMSG_ERROR || at >= uint32(len(sent)) {
			continue
		}
		if err := errorOf(m); err != nil {
			ch.failed(sent[at], err)
		}
		if int(at) == len(sent)-1 {
			return true
		}
	}
	return false
}

func (c *conn) send() error {
	for {
		err := unix.Sendto(c.fd, c.out.b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if !errors.Is(err, unix.EINTR) {
			return wrap("send to the kernel", err)
		}
	}
}

// receive gives what one datagram of the kernel's holds; it is valid until the next call.
func (c *conn) receive() ([]byte, error) {
	for {
		n, from, err := unix.Recvfrom(c.fd, c.in, unix.MSG_TRUNC)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return nil, errNoAnswer
		case err != nil:
			return nil, fmt.Errorf("receive from the kernel: %w", err)
		case n > len(c.in):
			return nil, fmt.Errorf("receive from the kernel: a message of %d bytes", n)
		}
		if fromKernel(from) {
			return c.in[:n], nil
		}
	}
}

// fromKernel is false for what another process sent to our port.
func fromKernel(from unix.Sockaddr) bool {
	addr, ok := from.(*unix.SockaddrNetlink)
	return ok && addr.Pid == 0
}

// netlinkError is an error number with the kernel's explanation.
type netlinkError struct {
	unix.Errno
	text string
	// line is that of the IP set's member that the kernel refused; 0 if it named none.
	line uint32
}

func (e netlinkError) Error() string {
	if e.text == "" {
		return e.Errno.Error()
	}
	return e.Errno.Error() + " (" + e.text + ")"
}

func (e netlinkError) Unwrap() error { return e.Errno }

// errorOf gives the error that NLMSG_ERROR or NLMSG_DONE carries, or nil for success.
func errorOf(m message) error {
	code := int32(uint32Of(m.body))
	if code >= 0 || code < -maxNetlinkErrno {
		return nil
	}
	e := netlinkError{Errno: unix.Errno(-code)}
	skip := 4 // NLMSG_DONE
	if m.typ == unix.NLMSG_ERROR && len(m.body) >= unix.SizeofNlMsgerr {
		skip = unix.SizeofNlMsgerr // with NETLINK_CAP_ACK only the header of our message comes back
		if m.flags&unix.NLM_F_CAPPED == 0 {
			skip = 4 + int(native.Uint32(m.body[4:]))
			e.line = refusedLine(m.body[4:])
		}
	}
	if m.flags&unix.NLM_F_ACK_TLVS != 0 {
		for typ, value := range attributes(m.body, skip) {
			if typ == unix.NLMSGERR_ATTR_MSG {
				e.text = stringOf(value)
			}
		}
	}
	return e
}

func wrap(action string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", action, err)
}
