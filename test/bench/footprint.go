// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"korat/test/bench/guest"
	"korat/test/lab"
)

const (
	footprintPods = 110
	// footprintPeers are the measured host's BGP sessions: the first host, and BIRDs that share one.
	footprintPeers = 20
	// footprintIdle is one period of the resync, so that it counts once.
	footprintIdle = 90 * time.Second
)

// footprint measures what an agent and its speaker take when nothing happens. The datastore is elsewhere.
func footprint(ctx context.Context, s *Suite) (rows []Row, err error) {
	c, err := s.cluster(ctx, "footprint", 2)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	agent := c.Agents[1]
	s.say("footprint: %d pods and %d peers", footprintPods, footprintPeers)
	if err := crowdOfBirds(ctx, c); err != nil {
		return nil, err
	}
	if err := addPods(ctx, agent.Host, footprintPods); err != nil {
		return nil, err
	}
	err = lab.Until(ctx, "all sessions are up", func(ctx context.Context) error {
		up, err := metric(ctx, agent.Host, `korat_bgp_sessions{established="true"}`)
		if err == nil && up != footprintPeers {
			err = fmt.Errorf("%v of %d are", up, footprintPeers)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	child, err := speaker(agent.Host)
	if err != nil {
		return nil, err
	}
	if err := pass(ctx, cniSettle); err != nil {
		return nil, err
	}
	s.say("footprint: idle for %.0f s", footprintIdle.Seconds())
	return idle(ctx, agent.PID, child)
}

// idle lets processes do nothing and looks what that takes.
func idle(ctx context.Context, agent, speaker int) ([]Row, error) {
	var share [2]float64
	before, err := both(guest.CPU, agent, speaker)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := pass(ctx, footprintIdle); err != nil {
		return nil, err
	}
	took := time.Since(began)
	after, err := both(guest.CPU, agent, speaker)
	if err != nil {
		return nil, err
	}
	for i := range share {
		share[i] = 100 * float64(after[i]-before[i]) / float64(took)
	}
	rss := func(pids ...int) (float64, error) { return Memory("VmRSS", pids...) }
	peak := func(pids ...int) (float64, error) { return Memory("VmHWM", pids...) }
	now, err := both(rss, agent, speaker)
	if err != nil {
		return nil, err
	}
	program, err := Memory("RssFile", agent, speaker)
	if err != nil {
		return nil, err
	}
	most, err := both(peak, agent, speaker)
	name := fmt.Sprintf("with %d pods and %d peers", footprintPods, footprintPeers)
	return []Row{
		Below("RSS of agent and speaker "+name, "MB", now[0]+now[1], 60),
		Below("  of which agent", "MB", now[0], 0),
		Below("  of which the program itself, in both", "MB", program, 0),
		Below("  at its peak", "MB", most[0]+most[1], 0),
		Below("idle CPU of agent and speaker "+name, "% of a core", share[0]+share[1], 0.2),
		Below("  of which agent", "% of a core", share[0], 0),
	}, err
}

// both asks for two processes apart.
func both[T any](ask func(...int) (T, error), first, second int) (values [2]T, err error) {
	if values[0], err = ask(first); err != nil {
		return values, err
	}
	values[1], err = ask(second)
	return values, err
}

// addPods attaches pods, two at a time.
func addPods(ctx context.Context, h *lab.Host, n int) error {
	errs := make([]error, 2)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			for j := i; j < n && errs[i] == nil; j += len(errs) {
				_, errs[i] = h.AddPod(ctx, lab.PodConfig{Name: fmt.Sprintf("pod-%d", j)})
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// crowdOfBirds makes the other nodes of the mesh: BIRDs on one host, each with an address and a block of
// its own. They wait to be called.
func crowdOfBirds(ctx context.Context, c *lab.Cluster) error {
	// Of two nodes the one with the lower address calls the other.
	first := netip.AddrFrom4([4]byte{192, 168, 100, 200})
	h, err := c.Host(ctx, lab.HostConfig{Name: "birds", Interfaces: []lab.Interface{
		{Switch: c.Switch, Address: netip.PrefixFrom(first, 24)},
	}})
	if err != nil {
		return err
	}
	var nodes strings.Builder
	addr := first
	for i := range footprintPeers - 1 {
		if i > 0 {
			addr = addr.Next()
			if _, err := h.Exec(ctx, "ip", "addr", "add", addr.String()+"/24", "dev", "eth0"); err != nil {
				return err
			}
		}
		fmt.Fprintf(&nodes, birdNode, i, addr)
		if err := peerBird(h, i, addr, c.Hosts()[:2]); err != nil {
			return err
		}
	}
	if err := c.Agents[0].Host.WriteFile("/etc/korat/birds.yaml", []byte(nodes.String()), 0o644); err != nil {
		return err
	}
	_, err = c.Agents[0].Host.Exec(ctx, "koratctl", "apply", "-f", "/etc/korat/birds.yaml")
	return err
}

const birdNode = `---
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: bird-%d}
spec: {bgp: {ipv4Address: %s/24}}
`

// peerBird starts a BIRD that writes no route.
func peerBird(h *lab.Host, i int, addr netip.Addr, peers []*lab.Host) error {
	var text strings.Builder
	fmt.Fprintf(&text, "router id %s;\nprotocol device { scan time 60; }\nprotocol static { ipv4; route 172.30.%d.0/24 blackhole; }\n", addr, i)
	for _, peer := range peers {
		fmt.Fprintf(&text, "protocol bgp { local %s as 64512; neighbor %s as 64512; strict bind yes; passive yes; ipv4 { import all; export all; }; }\n",
			addr, peer.Address())
	}
	file := fmt.Sprintf("/run/bird-%d.conf", i)
	if err := h.WriteFile(file, []byte(text.String()), 0o644); err != nil {
		return err
	}
	_, err := h.Start(fmt.Sprintf("bird-%d", i), "bird", "-f", "-c", file, "-s", fmt.Sprintf("/run/bird-%d.ctl", i))
	return err
}
