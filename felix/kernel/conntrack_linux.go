// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"korat/felix/reconcile"
)

const (
	// maxFiltered is for how many addresses the kernel is asked one by one. It walks through all flows twice for each
	// address, 20 ms at a time on a host with 60,000 of them; it hands all of them on in 90 ms, and a million in a second.
	maxFiltered = 4
	// fewFlows are read all: a walk through the kernel's table of a quarter of a million buckets takes 7 ms even if
	// it is empty, and one search is two walks.
	fewFlows = 10_000
	// deleteBatch is how many flows DeleteWhere holds.
	deleteBatch = 1024
)

// Conntrack is the kernel's connection tracking. No flow in it is ours: those of pods are deleted when a policy
// doesn't allow them any more, since the chains accept what belongs to a flow without looking at policies again.
type Conntrack struct {
	h *Handle
	// few is how many flows are read all.
	few int
}

// Conntrack gives it.
func (h *Handle) Conntrack() Conntrack { return Conntrack{h, fewFlows} }

// Read calls each for the flows that one of the addresses takes part in: as who began it, or as who answers, even
// if it was called by another address (a service's). A flow that the kernel gives twice, because flows came or went
// meanwhile, comes twice. Flows are not kept: there may be a million. each may call Delete.
func (c Conntrack) Read(ctx context.Context, addresses []netip.Addr, each func(Flow)) error {
	wanted, wanted6 := map[netip.Addr]bool{}, map[netip.Addr]bool{}
	for _, a := range addresses {
		if a = a.Unmap(); a.Is4() {
			wanted[a] = true
		} else {
			wanted6[a] = true
		}
	}
	count, err := c.count()
	if err == nil && count > 0 {
		err = c.read(ctx, wanted, wanted6, count > c.few, each)
	}
	if err != nil {
		return fmt.Errorf("read the connection tracking: %w", err)
	}
	return nil
}

// count is how many flows there are.
func (c Conntrack) count() (n int, err error) {
	err = c.h.inside(func() error {
		text, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_count")
		if errors.Is(err, fs.ErrNotExist) { // the module is not loaded: nothing has asked for it
			return nil
		}
		if err == nil {
			n, err = strconv.Atoi(strings.TrimSpace(string(text)))
		}
		return err
	})
	return n, err
}

// read has the kernel search for IPv4 addresses if there are few among many flows. Its search for IPv6 addresses gives all flows
// but those of the address (ctnetlink_filter_match_tuple in net/netfilter/nf_conntrack_netlink.c takes the result of
// ipv6_addr_cmp the wrong way round), so that all are read here. Both families are in one table, and read by one walk.
func (c Conntrack) read(ctx context.Context, wanted, wanted6 map[netip.Addr]bool, many bool, each func(Flow)) error {
	if many && len(wanted) > 0 && len(wanted) <= maxFiltered {
		done, err := c.search(ctx, wanted, each)
		if err != nil {
			return err
		}
		if done {
			wanted = nil
		}
	}
	var family uint8
	switch {
	case len(wanted)+len(wanted6) == 0:
		return nil
	case len(wanted6) == 0:
		family = unix.AF_INET
	case len(wanted) == 0:
		family = unix.AF_INET6
	default:
		family = unix.AF_UNSPEC
	}
	return c.dump(ctx, func(b *buffer) { encodeFlowDump(b, family) }, func(body []byte) {
		from, to := flowEnds(body)
		if wanted[from] || wanted[to] || wanted6[from] || wanted6[to] {
			if f, ok := decodeFlow(body); ok {
				each(f)
			}
		}
	})
}

// search asks for each address. done is false if the kernel gives what was not asked for (before Linux 5.8).
func (c Conntrack) search(ctx context.Context, wanted map[netip.Addr]bool, each func(Flow)) (done bool, err error) {
	for a := range wanted {
		begun, err := c.searchEnd(ctx, flowEnd{a, false}, each)
		if err != nil || !begun {
			return false, err
		}
		answered, err := c.searchEnd(ctx, flowEnd{a, true}, func(f Flow) {
			if !wanted[f.Original.Source] { // or it was, or will be, found from there
				each(f)
			}
		})
		if err != nil || !answered {
			return false, err
		}
	}
	return true, nil
}

// flowEnd is an address that begins flows, or that answers.
type flowEnd struct {
	netip.Addr
	reply bool
}

func (e flowEnd) of(body []byte) bool {
	from, to := flowEnds(body)
	if e.reply {
		return to == e.Addr
	}
	return from == e.Addr
}

// searchEnd asks for the flows with one end. done is false if it got others too.
func (c Conntrack) searchEnd(ctx context.Context, end flowEnd, each func(Flow)) (done bool, err error) {
	done = true
	err = c.dump(ctx, func(b *buffer) { encodeFlowSearch(b, end) }, func(body []byte) {
		if !end.of(body) {
			done = false
		} else if f, ok := decodeFlow(body); ok {
			each(f)
		}
	})
	return done, err
}

// dump uses a socket of its own: with many flows it takes seconds, and may be broken off.
func (c Conntrack) dump(ctx context.Context, encode func(*buffer), each func(body []byte)) error {
	conn, err := c.h.dialInside(unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	encode(&conn.out)
	conn.seq++
	conn.out.end(conn.seq)
	if err = conn.send(); err == nil {
		_, err = conn.collect(ctx, func(m message) { each(m.body) })
	}
	return errors.Join(err, unix.Close(conn.fd))
}

// Delete deletes flows: their next packets are new ones. Deleting one that has gone, or that is another one by
// now, is success. Its error is a *reconcile.WriteError of those that could not be deleted.
func (c Conntrack) Delete(ctx context.Context, flows []Flow) error {
	var failed reconcile.WriteError[Flow]
	err := c.h.netfilter.write(ctx, changes{
		n: len(flows), count: &c.h.writes.flows,
		encode: func(b *buffer, i int) error { return encodeFlowDelete(b, flows[i]) },
		failed: func(i int, err error) {
			if !errors.Is(err, unix.ENOENT) {
				failed.Fail(flows[i], fmt.Errorf("delete flow %v: %w", flows[i], err))
			}
		},
	})
	if err != nil {
		return fmt.Errorf("delete flows: %w", err)
	}
	return failed.Err()
}

// Mark gives the bits of mask of the flows' marks as value has them. A flow that has gone is none to mark. Its error is a
// *reconcile.WriteError of those that could not be marked.
func (c Conntrack) Mark(ctx context.Context, flows []Flow, value, mask uint32) error {
	var failed reconcile.WriteError[Flow]
	err := c.h.netfilter.write(ctx, changes{
		n: len(flows), count: &c.h.writes.flows,
		encode: func(b *buffer, i int) error { return encodeFlowMark(b, flows[i], value, mask) },
		failed: func(i int, err error) {
			if !errors.Is(err, unix.ENOENT) {
				failed.Fail(flows[i], fmt.Errorf("mark flow %v: %w", flows[i], err))
			}
		},
	})
	if err != nil {
		return fmt.Errorf("mark flows: %w", err)
	}
	return failed.Err()
}

// DeleteWhere reads the flows of the addresses and deletes those for which condemned is true. It counts those; what
// it could not delete is in the error.
func (c Conntrack) DeleteWhere(ctx context.Context, addresses []netip.Addr, condemned func(Flow) bool) (n int, err error) {
	var batch []Flow
	var failed error
	flush := func() {
		failed = errors.Join(failed, c.Delete(ctx, batch))
		batch = batch[:0]
	}
	err = c.Read(ctx, addresses, func(f Flow) {
		if !condemned(f) {
			return
		}
		n++
		if batch = append(batch, f); len(batch) == deleteBatch {
			flush()
		}
	})
	flush()
	return n, errors.Join(err, failed)
}
