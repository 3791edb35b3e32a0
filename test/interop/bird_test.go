// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"korat/test/lab"
)

// bird is a host that runs BIRD as a node of the mesh, with a block of its own.
type bird struct {
	*lab.Host
	w       *world
	block   netip.Prefix
	process *lab.Process
}

// birdSocket and birdConfig are in the host's own /run.
const (
	birdSocket = "/run/bird.ctl"
	birdConfig = "/run/bird.conf"
)

// birdNode describes such a host.
type birdNode struct {
	name    string
	address netip.Prefix
	block   netip.Prefix
	// session is what its sessions say beyond the addresses.
	session string
	// ipv6 is its IPv6 address, and more what the configuration says of IPv6.
	ipv6 netip.Prefix
	more string
}

// lower has an address below those of all agents, so that it connects to them; plain is how a person
// would configure BIRD on a LAN.
func lower() birdNode {
	return birdNode{
		name: "d", address: netip.MustParsePrefix("192.168.100.50/24"), block: netip.MustParsePrefix("172.17.200.0/24"),
		session: "direct;",
	}
}

// higher has an address above those of all agents, so that they connect to it. Its sessions are as
// Calico's nodes configure theirs: next hops looked up, several paths wanted, the higher address waits.
func higher() birdNode {
	return birdNode{
		name: "e", address: netip.MustParsePrefix("192.168.100.200/24"), block: netip.MustParsePrefix("172.17.201.0/24"),
		session: "multihop; passive on;",
	}
}

// birdTemplate is completed with the router ID, the block, and what all sessions say.
const birdTemplate = `log stderr all;
router id %[1]s;
protocol device { scan time 2; }
protocol direct { ipv4; interface "eth*"; }
protocol static mine { ipv4; route %[2]s unreachable; }
protocol kernel { ipv4 { import none; export where source != RTS_DEVICE; }; persist; graceful restart; }
template bgp node {
	debug { states, events };
	local %[1]s as 64512;
	%[3]s
	graceful restart on;
	graceful restart time 120;
	connect delay time 1;
	connect retry time 1;
	error wait time 1, 2;
	ipv4 { import all; export where source = RTS_STATIC; add paths on; };
}
`

// addBird makes the host, has koratctl on the first node create its Node, and starts BIRD. Addresses of
// its block are kept from the pods by an IPReservation.
func (w *world) addBird(n birdNode) *bird {
	w.Helper()
	nodes := w.nodes()
	addresses := "ipv4Address: " + n.address.String()
	if n.ipv6.IsValid() {
		addresses += ", ipv6Address: \"" + n.ipv6.String() + "\""
	}
	w.create(nodes[0], fmt.Sprintf(`apiVersion: projectcalico.org/v3
kind: IPReservation
metadata: {name: %[1]s}
spec: {reservedCIDRs: [%[2]s]}
---
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: %[1]s}
spec: {bgp: {%[3]s}}
`, n.name, n.block, addresses))
	h, err := w.Host(w.limit(), lab.HostConfig{
		Name: n.name, Router: true, Interfaces: []lab.Interface{{Switch: w.Switch, Address: n.address, IPv6: n.ipv6}},
	})
	if err != nil {
		w.Fatal(err)
	}
	b := &bird{Host: h, w: w, block: n.block}
	w.run(h, "ip address add "+b.own().String()+"/32 dev lo")
	var config strings.Builder
	fmt.Fprintf(&config, birdTemplate, n.address.Addr(), n.block, n.session)
	for _, other := range nodes {
		if !other.Address().Is4() {
			continue
		}
		fmt.Fprintf(&config, "protocol bgp %s from node { neighbor %s as 64512; }\n", other.Name, other.Address())
	}
	config.WriteString(n.more)
	if err := h.WriteFile(birdConfig, []byte(config.String()), 0o644); err != nil {
		w.Fatal(err)
	}
	b.start()
	w.birds = append(w.birds, b)
	return b
}

// own is the address of the block that is the host's own.
func (b *bird) own() netip.Addr { return b.block.Addr().Next() }

// start starts BIRD; -R has it keep what the kernel holds until its neighbours have told everything.
func (b *bird) start() {
	b.w.Helper()
	p, err := b.Start("bird", "bird", "-f", "-R", "-c", birdConfig, "-s", birdSocket)
	if err != nil {
		b.w.Fatal(err)
	}
	b.process = p
	b.w.until("BIRD on "+b.Name+" answers", func(ctx context.Context) error {
		if _, err := b.ctl(ctx, "show status"); err == nil || p.Running() {
			return err
		}
		log, err := p.Log()
		b.w.Fatalf("BIRD on %s has ended: %v: %s", b.Name, err, log)
		return nil
	})
}

// ctl gives a command to BIRD.
func (b *bird) ctl(ctx context.Context, command string) (string, error) {
	return b.Exec(ctx, append([]string{"birdc", "-s", birdSocket}, strings.Fields(command)...)...)
}

// control gives BIRD a command that must succeed.
func (b *bird) control(command string) string {
	b.w.Helper()
	out, err := b.ctl(b.w.limit(), command)
	if err != nil {
		b.w.Fatal(err)
	}
	return out
}

// told waits until BIRD and the kernel below it have a node's block.
func (b *bird) told(p *lab.Pod) {
	b.w.Helper()
	prefix := block(p.Address())
	b.w.until(fmt.Sprintf("BIRD on %s has %s", b.Name, prefix), func(ctx context.Context) error {
		out, err := b.ctl(ctx, "show route for "+prefix.String()+" protocol "+p.Host.Name)
		if err == nil && !strings.Contains(out, "via "+p.Host.Address().String()+" on eth0") {
			err = fmt.Errorf("have %q", out)
		}
		return err
	})
	b.w.shows(b, "ip route show "+prefix.String(), fmt.Sprintf("%s via %s dev eth0 proto bird metric 32", prefix, p.Host.Address()))
}

// learned waits until a node's kernel has BIRD's block.
func (b *bird) learned(h *lab.Host) {
	b.w.Helper()
	b.w.shows(h, "ip route show "+b.block.String(), fmt.Sprintf("%s via %s dev eth0 proto 75 onlink", b.block, b.Address()))
}

// recovered waits until BIRD is done with its graceful restart: only then does it remove routes.
func (b *bird) recovered() {
	b.w.Helper()
	b.w.until("BIRD on "+b.Name+" has recovered", func(ctx context.Context) error {
		out, err := b.ctl(ctx, "show status")
		if err == nil && strings.Contains(out, "Graceful restart recovery in progress") {
			err = fmt.Errorf("have %q", out)
		}
		return err
	})
}

// caughtUp waits until BIRD has heard everything from a node that restarted: only then does it remove
// what it was not told again.
func (b *bird) caughtUp(h *lab.Host) {
	b.w.Helper()
	b.caughtUpWith(h.Name)
	b.told(h.Pods()[0])
}

func (b *bird) caughtUpWith(session string) {
	b.w.Helper()
	b.w.until("BIRD on "+b.Name+" has caught up with "+session, func(ctx context.Context) error {
		out, err := b.ctl(ctx, "show protocols all "+session)
		if err == nil && (!strings.Contains(out, "Established") || strings.Contains(out, "graceful restart active")) {
			err = fmt.Errorf("have %q", out)
		}
		return err
	})
}
