// SPDX-License-Identifier: Apache-2.0

package etcd_test

import (
	"net"
	"strings"
	"sync"
	"testing"
)

// proxy stands between a client and a server.
type proxy struct {
	listener net.Listener
	running  sync.WaitGroup

	mu     sync.Mutex
	target string
	// cut refuses every connection; flow is closed while bytes pass.
	cut   bool
	flow  chan struct{}
	conns map[net.Conn]bool
	ended bool
}

// newProxy gives a proxy to the server at the URL.
func newProxy(t *testing.T, url string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, target: strings.TrimPrefix(url, "http://"), flow: make(chan struct{}), conns: map[net.Conn]bool{}}
	close(p.flow)
	p.running.Go(p.serve)
	t.Cleanup(func() {
		p.hold(false)
		listener.Close()
		p.drop(true)
		p.running.Wait()
	})
	return p
}

func (p *proxy) endpoint() string { return "http://" + p.listener.Addr().String() }

// refuse cuts every connection, present and new, or ends that state.
func (p *proxy) refuse(refuse bool) {
	p.mu.Lock()
	p.cut = refuse
	p.mu.Unlock()
	if refuse {
		p.drop(false)
	}
}

// drop cuts the present connections, which a client may make anew; at the end it also keeps others from being added.
func (p *proxy) drop(end bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = p.ended || end
	for c := range p.conns {
		c.Close()
	}
}

// hold lets connections be but passes no byte on, or ends that state.
func (p *proxy) hold(hold bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.flow:
		if hold {
			p.flow = make(chan struct{})
		}
	default:
		if !hold {
			close(p.flow)
		}
	}
}

func (p *proxy) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.pass(client) })
	}
}

// pass connects a client, once bytes may flow, and copies until one side ends.
func (p *proxy) pass(client net.Conn) {
	defer client.Close()
	if !p.add(client) {
		return
	}
	<-p.passing()
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer server.Close()
	if !p.add(server) {
		return
	}
	p.running.Go(func() { p.copy(server, client) })
	p.copy(client, server)
}

func (p *proxy) copy(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		<-p.passing()
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

func (p *proxy) add(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[c] = true
	return !p.cut && !p.ended
}

func (p *proxy) passing() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.flow
}
