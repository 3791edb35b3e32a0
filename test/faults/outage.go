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

// How the names of the first pods begin; the host's name follows.
const (
	stays  = "stays-"
	leaves = "leaves-"
)

// Outage takes the datastore away for a time. Meanwhile pods come and go on every host by the addresses that the hosts
// have leased, and those that are there reach each other without the loss of a packet; afterwards the datastore comes
// to say what is so, without anybody's help. It removes the pods that it made.
func (s *Site) Outage(ctx context.Context, away time.Duration, ledger *Ledger) error {
	o := &outage{site: s, ledger: ledger}
	if err := o.run(ctx, away); err != nil {
		return fmt.Errorf("datastore away for %s: %w", away, err)
	}
	return nil
}

type outage struct {
	site   *Site
	ledger *Ledger
	pods   []*lab.Pod
	pings  []*lab.Process
	next   int
}

func (o *outage) run(ctx context.Context, away time.Duration) error {
	if err := o.begin(ctx); err != nil {
		return err
	}
	if err := o.site.KillDatastore(); err != nil {
		return err
	}
	during := o.during(ctx, away)
	if err := errors.Join(during, o.site.StartDatastore()); err != nil {
		return err
	}
	if err := errors.Join(o.converged(ctx), o.site.WaitReady(ctx)); err != nil {
		return err
	}
	if err := o.lost(ctx); err != nil {
		return err
	}
	if err := o.removeAll(ctx, o.pods); err != nil {
		return err
	}
	_, err := o.site.AwaitNothing(ctx)
	return err
}

// begin makes the pods that are there when the datastore goes, and has those that stay reach each other.
func (o *outage) begin(ctx context.Context) error {
	for _, h := range o.site.Hosts() {
		for _, role := range []string{stays, leaves} {
			if err := o.add(ctx, h, role+h.Name); err != nil {
				return err
			}
		}
	}
	if err := o.converged(ctx); err != nil {
		return err
	}
	return o.ping(ctx)
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

func (o *outage) removeAll(ctx context.Context, pods []*lab.Pod) error {
	for _, p := range slices.Clone(pods) {
		if err := o.remove(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// first are the pods made at the beginning to stay, or to leave.
func (o *outage) first(role string) []*lab.Pod {
	var pods []*lab.Pod
	for _, p := range o.pods {
		if p.Name == role+p.Host.Name {
			pods = append(pods, p)
		}
	}
	return pods
}

// during has pods come and go until the time is over.
func (o *outage) during(ctx context.Context, away time.Duration) error {
	if err := o.removeAll(ctx, o.first(leaves)); err != nil {
		return err
	}
	for end := time.Now().Add(away); time.Now().Before(end); {
		for _, h := range o.site.Hosts() {
			if err := o.addNext(ctx, h); err != nil {
				return err
			}
		}
		pause(ctx, outagePace)
	}
	return nil
}

// addNext adds a pod to the host. Every other one is gone before the datastore comes back.
func (o *outage) addNext(ctx context.Context, h *lab.Host) error {
	o.next++
	if err := o.add(ctx, h, fmt.Sprintf("new-%s-%d", h.Name, o.next)); err != nil {
		return err
	}
	if o.next%4 < 2 {
		return o.remove(ctx, o.pods[len(o.pods)-1])
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
	stay := o.first(stays)
	for _, from := range stay {
		for _, to := range stay {
			if from == to {
				continue
			}
			if err := o.pingPod(ctx, from, to); err != nil {
				return err
			}
		}
	}
	return nil
}

// pingPod starts a ping for each of the pod's addresses as soon as that answers.
func (o *outage) pingPod(ctx context.Context, from, to *lab.Pod) error {
	for i, addr := range podAddresses(to) {
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
	return nil
}

var (
	pingSummary = regexp.MustCompile(`(\d+) packets transmitted, (\d+) received`)
	pingAnswer  = regexp.MustCompile(`icmp_seq=(\d+) ttl`)
)

// lost ends the pings and says which missed an answer.
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
		missed, sent, ok := unanswered(log)
		if !ok {
			return fmt.Errorf("%s ends without a summary", p.Name)
		}
		for _, n := range missed {
			errs = append(errs, fmt.Errorf("%s: packet %d of %d was lost", p.Name, n, sent))
		}
	}
	return errors.Join(errs...)
}

// unanswered reads from ping's output which of the packets that it sent missed an answer; ok is false without its
// summary. The last packet does not count: the interrupt may come before its answer.
func unanswered(log string) (missed []int, sent int, ok bool) {
	total := pingSummary.FindStringSubmatch(log)
	if total == nil {
		return nil, 0, false
	}
	sent, _ = strconv.Atoi(total[1]) // It is digits.
	answered := map[string]bool{}
	for _, match := range pingAnswer.FindAllStringSubmatch(log, -1) {
		answered[match[1]] = true
	}
	for n := 1; n < sent; n++ {
		if !answered[strconv.Itoa(n)] {
			missed = append(missed, n)
		}
	}
	return missed, sent, true
}
