// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
)

// Config describes a Place.
type Config struct {
	// Name is for errors.
	Name string
	// Addresses are what it asks from and answers at: one of a family at most.
	Addresses []netip.Addr
	// Ports are those that it answers at, by every protocol.
	Ports []uint16
	// Inside calls a function on a thread that is in its network namespace.
	Inside func(func() error) error
}

// Place asks and answers.
type Place struct {
	config Config
	closes []io.Closer
	// serving counts the goroutines.
	serving sync.WaitGroup

	mu sync.Mutex
	// used is the last source port.
	used uint16
}

// Open makes a Place that answers.
func Open(config Config) (*Place, error) {
	p := &Place{config: config, used: lastPort}
	err := config.Inside(func() error {
		for _, addr := range config.Addresses {
			if err := p.serve(addr); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", config.Name, err), p.Close())
	}
	return p, nil
}

// Close ends the answering.
func (p *Place) Close() error {
	var errs []error
	for _, c := range p.closes {
		errs = append(errs, c.Close())
	}
	p.serving.Wait()
	return errors.Join(errs...)
}

// The source ports. What the kernel chooses by itself is above them.
const (
	firstPort = 10000
	lastPort  = 32000
)

// port gives a source port that has not been in use for long.
func (p *Place) port() uint16 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used++; p.used > lastPort {
		p.used = firstPort
	}
	return p.used
}

// serve answers at an address. The sockets are made here, in the namespace.
func (p *Place) serve(addr netip.Addr) error {
	ctx := context.Background()
	var c net.ListenConfig
	for _, port := range p.config.Ports {
		at := netip.AddrPortFrom(addr, port).String()
		l, err := c.Listen(ctx, "tcp", at)
		if err != nil {
			return err
		}
		p.closes = append(p.closes, l)
		p.serving.Go(func() { p.accept(l) })
		u, err := c.ListenPacket(ctx, "udp", at)
		if err != nil {
			return err
		}
		p.closes = append(p.closes, u)
		p.serving.Go(func() { echo(u) })
	}
	network := fmt.Sprintf("ip4:%d", protocolSCTP)
	if addr.Is6() {
		network = fmt.Sprintf("ip6:%d", protocolSCTP)
	}
	s, err := c.ListenPacket(ctx, network, addr.String())
	if err != nil {
		return err
	}
	p.closes = append(p.closes, s)
	p.serving.Go(func() { p.acknowledge(s) })
	return nil
}

// accept keeps each connection until the other end closes it.
func (p *Place) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return // It is closed.
		}
		p.serving.Go(func() {
			_, _ = io.Copy(io.Discard, conn) // It ends with a reset.
			_ = conn.Close()
		})
	}
}

func echo(c net.PacketConn) {
	buf := make([]byte, 64)
	for {
		n, from, err := c.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			_, _ = c.WriteTo(buf[:n], from) // Who gets no answer asks again.
		}
	}
}

// acknowledge answers INIT chunks.
func (p *Place) acknowledge(c net.PacketConn) {
	buf := make([]byte, 256)
	for {
		n, from, err := c.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		in, ok := readSCTP(buf[:n])
		if err != nil || !ok || in.chunk != chunkInit {
			continue
		}
		for _, port := range p.config.Ports {
			if in.destination == port {
				ack := sctpPacket{source: port, destination: in.source, verification: in.tag, chunk: chunkInitAck, tag: in.tag ^ 1<<31 | 1}
				_, _ = c.WriteTo(ack.bytes(), from) // Who gets no answer asks again.
			}
		}
	}
}
