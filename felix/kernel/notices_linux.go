// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"korat/api/wake"
	"korat/felix/dataplane"
)

// groups are the multicast groups that are heard. A kernel without IPv6 has its groups all the same.
const groups = 1<<(unix.RTNLGRP_LINK-1) | 1<<(unix.RTNLGRP_NEIGH-1) |
	1<<(unix.RTNLGRP_IPV4_IFADDR-1) | 1<<(unix.RTNLGRP_IPV4_ROUTE-1) | 1<<(unix.RTNLGRP_IPV4_NETCONF-1) |
	1<<(unix.RTNLGRP_IPV6_IFADDR-1) | 1<<(unix.RTNLGRP_IPV6_ROUTE-1) | 1<<(unix.RTNLGRP_IPV6_NETCONF-1)

// What linux/netconf.h has: messages of changed settings of an interface (Linux 3.8).
const (
	netconfHeader     = 1
	netconfaIfindex   = 1
	netconfAll        = -1
	netconfDefault    = -2
	newNetconfMessage = unix.RTM_NEWNETCONF
)

// notices hears what changes in the kernel and keeps it, coalesced, until it is taken.
type notices struct {
	file *os.File
	raw  syscall.RawConn
	// own is the socket whose changes are ours.
	own  *conn
	wake wake.Signal
	done chan struct{}
	// links are as they were heard of last, by index; only run uses it.
	links map[uint32]kernelLink

	mu      sync.Mutex
	pending Notice
	// grouped are the groups that we have written to links and that the kernel has not told of yet.
	grouped map[string]uint32
}

// listen subscribes in the calling thread's network namespace. Changes made through own are ignored.
func listen(own *conn) (*notices, error) {
	fd, _, err := socket(unix.NETLINK_ROUTE, groups)
	if err != nil {
		return nil, err
	}
	leaveOut(fd, own.port)
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(fmt.Errorf("make netlink socket non-blocking: %w", err), unix.Close(fd))
	}
	n := &notices{
		file: os.NewFile(uintptr(fd), "netlink"), own: own, pending: newNotice(),
		wake: wake.New(), done: make(chan struct{}), links: map[uint32]kernelLink{}, grouped: map[string]uint32{},
	}
	if n.raw, err = n.file.SyscallConn(); err == nil {
		err = n.learn()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen to the kernel: %w", err), n.file.Close())
	}
	return n, nil
}

// Wake is written to when there is something to Drain.
func (h *Handle) Wake() <-chan struct{} { return h.notices.wake }

// Drain takes what was noticed since the last call. It never blocks.
func (h *Handle) Drain() Notice { return h.notices.take() }

func (n *notices) take() Notice {
	n.mu.Lock()
	defer n.mu.Unlock()
	taken := n.pending
	n.pending = newNotice()
	return taken
}

func (n *notices) close() error {
	err := n.file.Close()
	<-n.done
	return err
}

// run hears until the socket is closed. After a loss the links are read anew before it is told, as a name that a link had
// before is not known afterwards; where that fails, as it may while many links come and go, it is done at the next datagram.
func (n *notices) run() {
	defer close(n.done)
	r := receiver{raw: n.raw, buf: make([]byte, receiveSize)}
	for stale := false; ; {
		b, err := r.receive()
		lost := errors.Is(err, unix.ENOBUFS)
		switch {
		case errors.Is(err, os.ErrClosed):
			return
		case err != nil && !lost:
			n.note(func(p *Notice) { p.Lost, p.Err = true, fmt.Errorf("listen to the kernel: %w", err) })
			return
		}
		if stale || lost {
			stale = n.learn() != nil
		}
		n.note(func(p *Notice) {
			p.Lost = p.Lost || lost
			for m := range messages(b) {
				n.hear(p, m)
			}
		})
	}
}

// learn reads the links as they are. What changes from now on is heard of later.
func (n *notices) learn() error {
	return n.own.links(context.Background(), func() { clear(n.links) }, func(l kernelLink) { n.links[uint32(l.Index)] = l.heard() })
}

// note lets change the pending Notice, and wakes its taker if there is something in it.
func (n *notices) note(change func(*Notice)) {
	n.mu.Lock()
	change(&n.pending)
	if n.pending.size() > maxNoticed {
		lost := newNotice()
		lost.Lost, lost.Err = true, n.pending.Err
		n.pending = lost
	}
	empty := n.pending.empty()
	n.mu.Unlock()
	if !empty {
		n.wake.Poke()
	}
}

// hear notes one message.
func (n *notices) hear(p *Notice, m message) {
	switch m.typ {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		n.hearLink(p, m)
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		n.hearAddress(p, m)
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		n.hearRoute(p, m)
	case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
		n.hearNeighbour(p, m)
	case newNetconfMessage:
		n.hearNetconf(p, m)
	}
}

// hearLink leaves out that a link has the group that we have written, if nothing else of it is new: the kernel doesn't
// say who asked for a change of a link. What else we did ourselves it tells of: setting a link down flushes its routes.
func (n *notices) hearLink(p *Notice, m message) {
	l, ok := decodeLink(m.body)
	if !ok {
		return
	}
	index := uint32(l.Index)
	old := n.links[index]
	n.links[index] = l.heard()
	if m.typ == unix.RTM_DELLINK {
		delete(n.links, index)
		delete(n.grouped, l.name)
	} else if n.regrouped(old, l.heard()) {
		return
	}
	if old.name != "" && old.name != l.name {
		p.Links[old.name] = true
	}
	p.Links[l.name] = p.Links[l.name] || m.typ == unix.RTM_DELLINK || l.Flags&unix.IFF_UP == 0
}

// regroup notes that a link is being given a group by us.
func (n *notices) regroup(name string, group uint32) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.grouped[name] = group
}

// notRegrouped notes that this has failed, or that there is no such link.
func (n *notices) notRegrouped(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.grouped, name)
}

// regrouped says whether all that is new of a link is the group that we have given it, of which the kernel tells once.
func (n *notices) regrouped(old, now kernelLink) bool {
	group, ours := n.grouped[now.name]
	old.group = now.group
	if !ours || group != now.group || old != now {
		return false
	}
	delete(n.grouped, now.name)
	return true
}

// heard is a link without what says which change its message is about.
func (l kernelLink) heard() kernelLink {
	l.Change = 0
	return l
}

// hearAddress: with a link's last address go all its IPv4 routes. All its IPv6 routes go when IPv6 is switched
// off on it, and with them its link-local address; the others come and go without harm.
func (n *notices) hearAddress(p *Notice, m message) {
	msg, prefix, ok := decodeAddress(m.body)
	if !ok {
		return
	}
	local := prefix.Addr().Is6() && prefix.Addr().IsLinkLocalUnicast()
	p.Addresses = p.Addresses || !local
	if m.typ == unix.RTM_NEWADDR {
		return
	}
	if !local {
		p.RemovedAddresses[prefix.Addr()] = true
	}
	if name := n.links[msg.Index].name; name != "" && (msg.Family == unix.AF_INET || local) {
		p.Links[name] = true
	}
}

func (n *notices) hearRoute(p *Notice, m message) {
	msg, ok := header[unix.RtMsg](m.body)
	if !ok || m.port == n.own.port {
		return
	}
	r, ok := decodeRoute(m.body, msg.Family)
	if !ok {
		return
	}
	if r.Family == unix.AF_INET && r.prefix.Bits() == 0 && r.Protocol != Protocol {
		p.DefaultRoute = true
	}
	if r.atOurMetric() {
		p.Routes[r.prefix] = true
		p.Planted = p.Planted || m.typ == unix.RTM_NEWROUTE && r.Protocol == Protocol
	}
}

// hearNeighbour looks at entries that carry our protocol number: who changes an entry of ours keeps
// the number, and who replaces it deletes it first. The others' come and go all the time.
func (n *notices) hearNeighbour(p *Notice, m message) {
	e, ok := decodeNeighbour(m.body)
	if !ok || m.port == n.own.port || e.protocol != Protocol {
		return
	}
	if name := n.links[uint32(e.Ifindex)].name; strings.HasPrefix(name, InterfacePrefix) {
		p.Neighbours[dataplane.NeighbourKey{Device: name, Address: e.address}] = true
	}
}

// hearNetconf can't tell our own writes from others': the kernel doesn't say who wrote a sysctl.
func (n *notices) hearNetconf(p *Notice, m message) {
	for typ, value := range attributes(m.body, netconfHeader) {
		if typ != netconfaIfindex {
			continue
		}
		switch index := int32(uint32Of(value)); index {
		case netconfAll:
			p.Sysctls["all"] = true
		case netconfDefault:
			p.Sysctls["default"] = true
		default:
			if name := n.links[uint32(index)].name; name != "" {
				p.Sysctls[name] = true
			}
		}
	}
}
