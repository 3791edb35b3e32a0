// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"korat/api"
	"korat/policy/chain"
	"korat/policy/render"
)

// chainEvents hears which of our chains, and of the kernel's own ones, others change in nftables, where iptables-nft
// keeps its rules. What our own programs do is known by their sockets' ports.
type chainEvents struct {
	file    *os.File
	raw     syscall.RawConn
	notices *notices
	done    chan struct{}

	mu sync.Mutex
	// ports are those of our programs, by their names.
	ports map[string]uint32
	// doubt has what others changed; all says of a family that it may be anything.
	doubt map[api.Family]map[place]struct{}
	all   map[api.Family]bool
	// deaf says that nothing is heard any more.
	deaf bool
}

// listenChains subscribes in the Handle's namespace.
func (h *Handle) listenChains() (*chainEvents, error) {
	e := &chainEvents{
		notices: h.notices, done: make(chan struct{}), ports: map[string]uint32{},
		doubt: map[api.Family]map[place]struct{}{}, all: map[api.Family]bool{},
	}
	err := h.inside(func() error {
		fd, _, err := socket(unix.NETLINK_NETFILTER, 1<<(unix.NFNLGRP_NFTABLES-1))
		if err != nil {
			return err
		}
		if err := unix.SetNonblock(fd, true); err != nil {
			return errors.Join(fmt.Errorf("make netlink socket non-blocking: %w", err), unix.Close(fd))
		}
		e.file = os.NewFile(uintptr(fd), "nftables")
		return nil
	})
	if err == nil {
		e.raw, err = e.file.SyscallConn()
	}
	if err != nil {
		return nil, fmt.Errorf("listen to nftables: %w", err)
	}
	go e.run()
	return e, nil
}

func (e *chainEvents) close() error {
	err := e.file.Close()
	<-e.done
	return err
}

// own says what port a program of ours has; 0 if it has ended.
func (e *chainEvents) own(program string, port uint32) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ports[program] = port; port == 0 {
		delete(e.ports, program)
	}
	if err := leaveOutPorts(e.raw, slices.Collect(maps.Values(e.ports))); err != nil {
		e.deaf = true // the socket is closed
	}
}

// take gives what others changed since the last call; all says that it may be anything.
func (e *chainEvents) take(f api.Family) (doubt []place, all bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	doubt, all = slices.Collect(maps.Keys(e.doubt[f])), e.all[f] || e.deaf
	delete(e.doubt, f)
	delete(e.all, f)
	return doubt, all
}

// run hears until the socket is closed.
func (e *chainEvents) run() {
	defer close(e.done)
	r := receiver{raw: e.raw, buf: make([]byte, receiveSize)}
	for {
		b, err := r.receive()
		switch {
		case errors.Is(err, os.ErrClosed):
			return
		case errors.Is(err, unix.ENOBUFS):
			e.lose(false)
		case err != nil:
			e.lose(true)
			return
		case e.hear(b):
			e.notices.note(func(p *Notice) { p.Chains = true })
		}
	}
}

// lose notes that something was not heard, and whether nothing will be any more.
func (e *chainEvents) lose(deaf bool) {
	e.mu.Lock()
	for _, f := range api.Families() {
		e.all[f] = true
	}
	e.deaf = deaf
	e.mu.Unlock()
	e.notices.note(func(p *Notice) { p.Chains = true })
}

// hear notes what one datagram tells, and says whether it is something.
func (e *chainEvents) hear(b []byte) (something bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for m := range messages(b) {
		if e.isOwn(m.port) {
			return something // a datagram is of one transaction
		}
		f, p, ok := changedChain(m)
		if !ok {
			continue
		}
		if something = true; p.name == "" {
			e.all[f] = true
			continue
		}
		if e.doubt[f] == nil {
			e.doubt[f] = map[place]struct{}{}
		}
		e.doubt[f][p] = struct{}{}
	}
	return something
}

func (e *chainEvents) isOwn(port uint32) bool {
	for _, p := range e.ports {
		if p == port {
			return true
		}
	}
	return false
}

// changedChain gives the chain that a message tells to have changed; no name stands for all of the table's. Others'
// chains are left out: kube-proxy writes its own all the time. But one that changes and is not new may have been ours, with
// another name, and rules lead to it now.
func changedChain(m message) (f api.Family, p place, ok bool) {
	if m.typ>>8 != unix.NFNL_SUBSYS_NFTABLES || len(m.body) < netfilterHeader {
		return 0, p, false
	}
	switch m.body[0] {
	case unix.AF_INET:
		f = api.IPv4
	case unix.AF_INET6:
		f = api.IPv6
	default:
		return 0, p, false
	}
	nameAttribute := uint16(0)
	switch m.typ & 0xff {
	case unix.NFT_MSG_NEWRULE, unix.NFT_MSG_DELRULE:
		nameAttribute = unix.NFTA_RULE_CHAIN
	case unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN:
		nameAttribute = unix.NFTA_CHAIN_NAME
	case unix.NFT_MSG_DELTABLE:
	default:
		return 0, p, false
	}
	var name []byte
	for typ, value := range attributes(m.body, netfilterHeader) {
		switch typ {
		case unix.NFTA_RULE_TABLE: // of rules, chains and tables alike
			p.table = chain.Table(stringOf(value))
		case nameAttribute:
			name = bytes.TrimRight(value, "\x00")
		}
		if nameAttribute != 0 && name != nil && p.table != "" {
			break
		}
	}
	if !slices.Contains(render.Tables(), p.table) {
		return 0, p, false
	}
	p.name = string(name)
	renamed := m.typ&0xff == unix.NFT_MSG_NEWCHAIN && m.flags&(unix.NLM_F_CREATE|unix.NLM_F_EXCL) == 0 && !chain.Key{Name: p.name}.Own()
	if nameAttribute == 0 || renamed {
		p.name = ""
		return f, p, true
	}
	return f, p, strings.HasPrefix(p.name, chainPrefix) || chain.Key{Name: p.name}.Own()
}

// netfilterPort gives the port of a process' netfilter socket: its own number unless another socket had taken that.
func netfilterPort(pid int) (uint32, error) {
	inodes := map[string]bool{}
	dir := "/proc/" + strconv.Itoa(pid)
	entries, err := os.ReadDir(dir + "/fd")
	if err != nil {
		return 0, err
	}
	for _, entry := range entries {
		link, err := os.Readlink(dir + "/fd/" + entry.Name())
		if inode, ok := strings.CutPrefix(link, "socket:["); ok && err == nil {
			inodes[strings.TrimSuffix(inode, "]")] = true
		}
	}
	sockets, err := os.ReadFile(dir + "/net/netlink")
	if err != nil {
		return 0, err
	}
	// sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode
	for line := range strings.Lines(string(sockets)) {
		words := strings.Fields(line)
		if len(words) == 10 && words[1] == strconv.Itoa(unix.NETLINK_NETFILTER) && inodes[words[9]] {
			port, err := strconv.ParseUint(words[2], 10, 32)
			return uint32(port), err
		}
	}
	return 0, fmt.Errorf("process %d has no netfilter socket", pid)
}
