// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"
)

// network is where a pod's sockets are.
type network interface {
	Dial(ctx context.Context, network, address string) (net.Conn, error)
	Listen(ctx context.Context, network, address string) (net.Listener, error)
}

func ports() []uint16 { return []uint16{webPort, otherPort} }

// serve accepts connections to all ports of all parties, until stop.
func serve(ctx context.Context, all []party) (stop func(), err error) {
	var open []net.Listener
	var servers sync.WaitGroup
	stop = func() {
		for _, l := range open {
			l.Close()
		}
		servers.Wait()
	}
	for _, p := range all {
		for _, a := range p.addresses {
			for _, port := range ports() {
				l, err := p.net.Listen(ctx, "tcp", netip.AddrPortFrom(a, port).String())
				if err != nil {
					return stop, fmt.Errorf("serve in pod %s: %w", p.name, err)
				}
				open = append(open, l)
				servers.Go(func() { accept(l) })
			}
		}
	}
	return stop, nil
}

// accept takes connections until the listener is closed; whoever made them ends them.
func accept(l net.Listener) {
	var open sync.WaitGroup
	defer open.Wait()
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		open.Go(func() {
			_, _ = io.Copy(io.Discard, conn) // Ends with the connection, however that ends.
			conn.Close()
		})
	}
}

// flow is from a party to another's address and port; the numbers are those of the parties.
type flow struct {
	from, to int
	address  netip.Addr
	port     uint16
}

// flows lists those between all parties.
func flows(all []party) []flow {
	var list []flow
	for i := range all {
		for j, to := range all {
			for _, a := range to.addresses {
				for _, port := range ports() {
					if i != j {
						list = append(list, flow{i, j, a, port})
					}
				}
			}
		}
	}
	return list
}

// connect says whether a connection comes about. Only one without any answer counts as blocked; otherwise there is
// an error.
func connect(ctx context.Context, all []party, f flow, patience time.Duration) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := all[f.from].net.Dial(ctx, "tcp", netip.AddrPortFrom(f.address, f.port).String())
	var timeout net.Error
	switch {
	case err == nil:
		return true, conn.Close()
	case errors.As(err, &timeout) && timeout.Timeout():
		return false, nil
	}
	return false, err
}

// How long a connection may take to come about: most take less than a millisecond, and after one second without
// an answer TCP asks again.
const (
	tablePatience   = 1500 * time.Millisecond
	blockedPatience = 250 * time.Millisecond
	openedPatience  = 10 * time.Millisecond

	// atOnce is how many may wait for an answer.
	atOnce = 128
)

// table has what became of each flow.
type table struct {
	parties []party
	flows   []flow
	has     []bool
	errs    []error
}

// connectAll opens a connection for each flow.
func connectAll(ctx context.Context, all []party) *table {
	t := &table{parties: all, flows: flows(all)}
	t.has, t.errs = make([]bool, len(t.flows)), make([]error, len(t.flows))
	slots := make(chan struct{}, atOnce)
	var open sync.WaitGroup
	for i, f := range t.flows {
		open.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			t.has[i], t.errs[i] = connect(ctx, all, f, tablePatience)
		})
	}
	open.Wait()
	return t
}

func (t *table) passed() int {
	n := 0
	for _, has := range t.has {
		if has {
			n++
		}
	}
	return n
}

// show prints the table of each family, or one if they are equal. The error lists what is not as the scene has it.
func (t *table) show(out io.Writer, s scene) error {
	names := []family{ipv4, ipv6}
	var grids [][][]string
	for _, f := range names {
		grids = append(grids, t.grid(f == ipv4))
	}
	if slices.EqualFunc(grids[0], grids[1], slices.Equal) {
		title(out, fmt.Sprintf("%s: TCP to ports %d and %d, by IPv4 and IPv6", s.title, webPort, otherPort))
		grid(out, grids[0], 2)
		return t.verdict(s)
	}
	for i, f := range names {
		if grids[i] != nil {
			title(out, fmt.Sprintf("%s: TCP to ports %d and %d, by %s", s.title, webPort, otherPort, f))
			grid(out, grids[i], 2)
		}
	}
	return t.verdict(s)
}

// grid has a mark for each port: ✓ passed, ✗ blocked, ! something else. It is nil if nobody has the family.
func (t *table) grid(is4 bool) [][]string {
	header := []string{"from ↓ to →", ""}
	for _, p := range t.parties {
		header = append(header, p.name)
	}
	rows := [][]string{header}
	for i, from := range t.parties {
		row := []string{from.name, from.label}
		for j := range t.parties {
			row = append(row, t.cell(i, j, is4))
		}
		rows = append(rows, row)
	}
	if !slices.ContainsFunc(t.flows, func(f flow) bool { return f.address.Is4() == is4 }) {
		return nil
	}
	return rows
}

func (t *table) cell(from, to int, is4 bool) string {
	if from == to {
		return "·"
	}
	text := ""
	for i, f := range t.flows {
		switch {
		case f.from != from || f.to != to || f.address.Is4() != is4:
		case t.errs[i] != nil:
			text += "!"
		case t.has[i]:
			text += "✓"
		default:
			text += "✗"
		}
	}
	return text
}

// verdict lists the flows that are not as the scene has them.
func (t *table) verdict(s scene) error {
	var wrong []string
	for i, f := range t.flows {
		from, to := t.parties[f.from], t.parties[f.to]
		what := fmt.Sprintf("%s to %s (%s)", from.name, to.name, netip.AddrPortFrom(f.address, f.port))
		allows := s.allows(from, to, f.port)
		switch {
		case t.errs[i] != nil:
			wrong = append(wrong, fmt.Sprintf("%s: %v", what, t.errs[i]))
		case t.has[i] && !allows:
			wrong = append(wrong, what+" passed")
		case !t.has[i] && allows:
			wrong = append(wrong, what+" was blocked")
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("%s: %d of %d connections were not as the policies say: %s", strings.ToLower(s.title), len(wrong), len(t.flows), strings.Join(wrong[:min(len(wrong), 10)], "; "))
}

// wish is a flow that is to change.
type wish struct {
	flow
	passes bool
}

// changed picks one flow to each address and port to which there are flows that are to change.
func changed(all []party, before, after func(from, to party, port uint16) bool) []wish {
	var wishes []wish
	for _, f := range flows(all) {
		had, has := before(all[f.from], all[f.to], f.port), after(all[f.from], all[f.to], f.port)
		twice := slices.ContainsFunc(wishes, func(w wish) bool { return w.address == f.address && w.port == f.port })
		if had != has && !twice {
			wishes = append(wishes, wish{f, has})
		}
	}
	return wishes
}

// await opens connections again and again until each wish is met, and says since when the last one is.
func await(ctx context.Context, all []party, wishes []wish) (time.Time, error) {
	times, errs := make([]time.Time, len(wishes)), make([]error, len(wishes))
	var watched sync.WaitGroup
	for i, w := range wishes {
		watched.Go(func() { times[i], errs[i] = awaitOne(ctx, all, w) })
	}
	watched.Wait()
	var last time.Time
	for _, t := range times {
		if t.After(last) {
			last = t
		}
	}
	return last, errors.Join(errs...)
}

// effectPatience bounds how long policies take to have an effect.
const effectPatience = 20 * time.Second

func awaitOne(ctx context.Context, all []party, w wish) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, effectPatience)
	defer cancel()
	patience := blockedPatience
	if w.passes {
		patience = openedPatience
	}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		began := time.Now()
		passes, err := connect(ctx, all, w.flow, patience)
		if err == nil && passes == w.passes && ctx.Err() == nil {
			return began, nil
		}
		select {
		case <-ctx.Done():
			return began, fmt.Errorf("%s to %s (%s): still not as the policies say: %w",
				all[w.from].name, all[w.to].name, netip.AddrPortFrom(w.address, w.port), errors.Join(context.Cause(ctx), err))
		case <-tick.C:
		}
	}
}

// exitCode is that of a program that has failed; 0 if it has not, or if something else is the matter.
func exitCode(err error) int {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return 0
	}
	return exit.ExitCode()
}
