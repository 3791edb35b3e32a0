// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// reportQueue is how many reports wait for who takes them.
	reportQueue = 4096
	// reportBytes is how much of each packet the kernel copies: enough for IPv6, some extension headers and ports.
	reportBytes = 128
	// reportBatch is how many reports the kernel sends at once, as far as they fit into reportBuffer, and reportDelay
	// how long it waits for so many: a storm wakes us some hundreds of times a second, not for each packet. 100,000
	// packets a second then take 4% of a core if they are taken, and half of that if they are dropped.
	reportBatch  = 200
	reportBuffer = 60 << 10
	reportDelay  = 100 * time.Millisecond
	// maxPrefixes bounds the texts that are kept to be given out again.
	maxPrefixes = 4096
)

// Reports hears one group of the packet log (NFLOG). While nobody does the kernel drops what its rules report, which
// costs next to nothing.
type Reports struct {
	file    *os.File
	raw     syscall.RawConn
	reports chan Report
	done    chan struct{}
	lost    atomic.Uint64
	// err is read once done is closed.
	err error
	// next is the sequence number that the kernel gives to the next report; only run uses it, and names and prefixes.
	next     uint32
	names    *devices
	prefixes map[string]string
}

// Reports begins to hear a group. One program in a network namespace can hear it, so another one gets an error.
func (h *Handle) Reports(group uint16) (*Reports, error) {
	c, err := h.dialInside(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("hear packet log group %d: %w", group, err)
	}
	r := &Reports{
		reports: make(chan Report, reportQueue), done: make(chan struct{}),
		names: c.devices(), prefixes: map[string]string{},
	}
	if err = bindReports(c, group); err == nil {
		err = wrap("make netlink socket non-blocking", unix.SetNonblock(c.fd, true))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("hear packet log group %d: %w", group, err), unix.Close(c.fd))
	}
	r.file = os.NewFile(uintptr(c.fd), "netlink")
	if r.raw, err = r.file.SyscallConn(); err != nil {
		return nil, errors.Join(fmt.Errorf("hear packet log group %d: %w", group, err), r.file.Close())
	}
	go r.run(c.in)
	return r, nil
}

func bindReports(c *conn, group uint16) error {
	var refused error
	err := c.write(context.Background(), changes{
		n: 1, count: new(atomic.Uint64),
		encode: func(b *buffer, _ int) error { encodeReportsBind(b, group); return nil },
		failed: func(_ int, err error) { refused = err },
	})
	if errors.Is(refused, unix.EPERM) {
		refused = fmt.Errorf("another program hears it, or CAP_NET_ADMIN is missing: %w", refused)
	}
	return errors.Join(err, refused)
}

// C gives the reports. It is closed at the end: after Close, or when Err tells why.
func (r *Reports) C() <-chan Report { return r.reports }

// Lost counts the reports that were dropped because they were not taken quickly enough.
func (r *Reports) Lost() uint64 { return r.lost.Load() }

// Err says what ended the reports; it is nil before that, and if it was Close.
func (r *Reports) Err() error {
	select {
	case <-r.done:
		return r.err
	default:
		return nil
	}
}

// Close ends the reports.
func (r *Reports) Close() error {
	err := r.file.Close()
	<-r.done
	return err
}

// run hears until the socket is closed.
func (r *Reports) run(buf []byte) {
	defer close(r.reports)
	defer close(r.done) // first, as Err is asked once there are no more reports
	receiver := receiver{raw: r.raw, buf: buf}
	for {
		b, err := receiver.receive()
		switch {
		case errors.Is(err, os.ErrClosed):
			return
		case errors.Is(err, unix.ENOBUFS): // the sequence numbers tell how many
		case err != nil:
			r.err = fmt.Errorf("hear packet log: %w", err)
			return
		default: // Control keeps the socket, which hear asks for names, from being closed meanwhile
			if r.raw.Control(func(uintptr) { r.hear(b) }) != nil {
				return
			}
		}
	}
}

// hear takes one datagram. What there is no room for is not even decoded, so that a storm of reports costs little more
// than their being copied.
func (r *Reports) hear(datagram []byte) {
	clear(r.names.names) // by now another interface may have the index
	for m := range messages(datagram) {
		if m.typ != unix.NFNL_SUBSYS_ULOG<<8|nflogPacket {
			continue
		}
		if seq, ok := reportSequence(m.body); ok {
			r.lost.Add(uint64(seq - r.next))
			r.next = seq + 1
		}
		if len(r.reports) == cap(r.reports) {
			r.lost.Add(1)
			continue
		}
		r.reports <- r.decode(m.body) // there is room, and nobody else sends
	}
}

// text gives a prefix as a string, the same one for the same prefix.
func (r *Reports) text(b []byte) string {
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	s, ok := r.prefixes[string(b)]
	if !ok {
		if len(r.prefixes) == maxPrefixes {
			clear(r.prefixes)
		}
		s = string(b)
		r.prefixes[s] = s
	}
	return s
}
