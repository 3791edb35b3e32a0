// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"time"

	"korat/test/lab"
)

// outagePace is between two pods that come and go while the datastore is away.
const outagePace = 500 * time.Millisecond

// Outage takes the datastore away for a time. Meanwhile pods come and go on every host by the addresses that the hosts
// have leased, and those that are there reach each other without the loss of a packet; afterwards the datastore comes
// to say what is so, without anybody's help. It removes the pods that it made.
func (s *Site) Outage(ctx context.Context, away time.Duration, ledger *Ledger) (err error) {
	o := &outage{site: s, ledger: ledger}
	defer func() {
		if err != nil {
			err = fmt.Errorf("datastore away for %s: %w", away, err)
		}
	}()
	for _, h := range s.Hosts() {
		for _, name := range []string{"stays", "leaves"} {
			if err := o.add(ctx, h, name+"-"+h.Name); err != nil {
				return err
			}
		}
	}
	if err := o.converged(ctx); err != nil {
		return err
	}
	if err := o.ping(ctx); err != nil {
		return err
	}
	if err := s.KillDatastore(); err != nil {
		return err
	}
	during := o.during(ctx, away)
	if err := errors.Join(during, s.StartDatastore()); err != nil {
		return err
	}
	if err := errors.Join(o.converged(ctx), s.WaitReady(ctx)); err != nil {
		return err
	}
	if err := o.lost(ctx); err != nil {
		return err
	}
	for _, p := range slices.Clone(o.pods) {
		if err := o.remove(ctx, p); err != nil {
			return err
		}
	}
	_, err = s.AwaitNothing(ctx)
	return err
}

type outage struct {
	site   *Site
	ledger *Ledger
	pods   []*lab.Pod
	pings  []*lab.Process
	next   int
}

func (o *outage) add(ctx context.Context, h *lab.Host, name string) error {
	p, err := h.AddPod(ctx, lab.PodConfig{Name: name})
	if err != nil {
		return err
	}
	o.pods = append(o.pods, p)
	o.ledger.Take(p.Name, podAddresses(p)...)
	return nil
}

// podAddresses are all that the plugin said.
func podAddresses(p *lab.Pod) []netip.Addr {
	var addrs []netip.Addr
	for _, ip := range p.Result.IPs {
		if addr, ok := netip.AddrFromSlice(ip.Address.IP); ok {
			addrs = append(addrs, addr.Unmap())
		}
	}
	return addrs
}

func (o *outage) remove(ctx context.Context, p *lab.Pod) error {
	o.ledger.Return(p.Name, podAddresses(p)...)
	o.pods = slices.DeleteFunc(o.pods, func(other *lab.Pod) bool { return other == p })
	return p.Delete(ctx)
}

// during has pods come and go until the time is over.
func (o *outage) during(ctx context.Context, away time.Duration) error {
	for _, p := range slices.Clone(o.pods) {
		if p.Name == "leaves-"+p.Host.Name {
			if err := o.remove(ctx, p); err != nil {
				return err
			}
		}
	}
	for end := time.Now().Add(away); time.Now().Before(end); {
		for _, h := range o.site.Hosts() {
			o.next++
			if err := o.add(ctx, h, fmt.Sprintf("new-%s-%d", h.Name, o.next)); err != nil {
				return err
			}
			// Every other one is gone before the datastore comes back.
			if p := o.pods[len(o.pods)-1]; o.next%4 < 2 {
				if err := o.remove(ctx, p); err != nil {
					return err
				}
			}
		}
		pause(ctx, outagePace)
	}
	return nil
}

// converged waits until the datastore has just the pods that there are, each with its addresses.
func (o *outage) converged(ctx context.Context) error {
	return lab.Until(ctx, "the datastore knows the pods", func(ctx context.Context) error {
		want := map[string]string{}
		held := 0
		for _, p := range o.pods {
			want[p.Name] = fmt.Sprint(podAddresses(p))
			held += len(podAddresses(p))
		}
		have, err := o.site.stored(ctx)
		if err != nil {
			return err
		}
		for _, ep := range have.Endpoints {
			if text := fmt.Sprint(bare(ep.Spec.IPNetworks)); want[ep.Spec.Pod] != text {
				return fmt.Errorf("endpoint of %s has %s, want %q", ep.Spec.Pod, text, want[ep.Spec.Pod])
			}
		}
		if len(have.Endpoints) != len(want) {
			return fmt.Errorf("%d endpoints, want %d", len(have.Endpoints), len(want))
		}
		if n := have.held(); n != held {
			return fmt.Errorf("%d addresses are in use in the blocks, want %d", n, held)
		}
		return nil
	})
}

// held counts the addresses that the blocks say are in use.
func (s stored) held() int {
	n := 0
	for _, b := range s.Blocks {
		for _, attribute := range b.Spec.Allocations {
			if attribute != nil && !cooling(b.Spec.Attributes[*attribute]) {
				n++
			}
		}
	}
	return n
}

func bare(prefixes []string) []netip.Addr {
	var addrs []netip.Addr
	for _, text := range prefixes {
		if p, err := netip.ParsePrefix(text); err == nil {
			addrs = append(addrs, p.Addr())
		}
	}
	return addrs
}

// ping has the pods that stay reach each other 50 times a second, over every family that they have.
func (o *outage) ping(ctx context.Context) error {
	var stay []*lab.Pod
	for _, p := range o.pods {
		if p.Name == "stays-"+p.Host.Name {
			stay = append(stay, p)
		}
	}
	for _, from := range stay {
		for _, to := range stay {
			for i, addr := range podAddresses(to) {
				if from == to {
					continue
				}
				err := lab.Until(ctx, to.Name+" answers "+from.Name, func(ctx context.Context) error {
					_, err := lab.Ping(ctx, from, addr)
					return err
				})
				if err != nil {
					return err
				}
				p, err := from.Start(fmt.Sprintf("ping-%s-%d-%d", to.Name, i, time.Now().UnixNano()), "ping", "-n", "-i", "0.02", addr.String())
				if err != nil {
					return err
				}
				o.pings = append(o.pings, p)
			}
		}
	}
	return nil
}

var (
	pingSummary = regexp.MustCompile(`(\d+) packets transmitted, (\d+) received`)
	pingAnswer  = regexp.MustCompile(`icmp_seq=(\d+) ttl`)
)

// lost ends the pings and says which missed an answer. The interrupt may come before the last one.
func (o *outage) lost(ctx context.Context) error {
	var errs []error
	for _, p := range o.pings {
		if err := p.Signal(syscall.SIGINT); err != nil {
			return err
		}
		if err := p.Wait(ctx); err != nil {
			errs = append(errs, err)
		}
		log, err := p.Log()
		if err != nil {
			return err
		}
		total := pingSummary.FindStringSubmatch(log)
		if total == nil {
			return fmt.Errorf("%s ends without a summary", p.Name)
		}
		sent, _ := strconv.Atoi(total[1]) // It is digits.
		answered := map[string]bool{}
		for _, match := range pingAnswer.FindAllStringSubmatch(log, -1) {
			answered[match[1]] = true
		}
		for n := 1; n < sent; n++ {
			if !answered[strconv.Itoa(n)] {
				errs = append(errs, fmt.Errorf("%s: packet %d of %d was lost", p.Name, n, sent))
			}
		}
	}
	return errors.Join(errs...)
}
