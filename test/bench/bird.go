// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"korat/test/lab"
)

const (
	birdFile   = "/run/bird.conf"
	birdSocket = "/run/bird.ctl"
)

// birdTemplate is shaped after what Calico's node container gives to BIRD. It is completed with the
// router ID, blocks, our and the neighbour's address.
const birdTemplate = `router id %[1]s;
log stderr { warning, error, fatal, bug };
protocol device { scan time 2; }
protocol direct { ipv4; interface -"cali*", "*"; }
protocol kernel { ipv4 { import all; export all; }; learn; persist; scan time 2; graceful restart; }
protocol static blocks { ipv4; %[2]s}
protocol bgp mesh {
  local %[1]s as 64512;
  neighbor %[3]s as 64512;
  multihop;
  ipv4 { import all; export filter { if proto = "blocks" then accept; reject; }; gateway recursive; next hop self; add paths on; };
  graceful restart;
  connect delay time 2;
  connect retry time 5;
  error wait time 5,30;
}
`

func birdHosts() [2]netip.Addr {
	return [2]netip.Addr{netip.AddrFrom4([4]byte{192, 168, 100, 10}), netip.AddrFrom4([4]byte{192, 168, 100, 11})}
}

func birdText(own, neighbour netip.Addr, blocks ...netip.Prefix) string {
	var routes strings.Builder
	for _, p := range blocks {
		fmt.Fprintf(&routes, "route %s blackhole; ", p)
	}
	return fmt.Sprintf(birdTemplate, own, routes.String(), neighbour)
}

// startBirds makes two hosts that run BIRD and are each other's neighbours.
func startBirds(ctx context.Context, c *lab.Cluster) ([]*lab.Host, error) {
	var hosts []*lab.Host
	addrs := birdHosts()
	for i, addr := range addrs {
		h, err := c.Host(ctx, lab.HostConfig{Name: fmt.Sprintf("bird%d", i), Interfaces: []lab.Interface{
			{Switch: c.Switch, Address: netip.PrefixFrom(addr, 24)},
		}})
		if err != nil {
			return nil, err
		}
		if err := h.WriteFile(birdFile, []byte(birdText(addr, addrs[1-i])), 0o644); err != nil {
			return nil, err
		}
		if _, err := h.Start("bird", "bird", "-f", "-c", birdFile, "-s", birdSocket); err != nil {
			return nil, err
		}
		hosts = append(hosts, h)
	}
	return hosts, lab.Until(ctx, "BIRD's session is up", func(ctx context.Context) error {
		out, err := hosts[1].Exec(ctx, "birdc", "-s", birdSocket, "show", "protocols", "mesh")
		if err == nil && !strings.Contains(out, "Established") {
			err = fmt.Errorf("birdc: %s", out)
		}
		return err
	})
}

// findBird extends PATH: Debian keeps BIRD where not every shell of root's looks.
func findBird() error {
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		return fmt.Errorf("set PATH: %w", err)
	}
	return nil
}
