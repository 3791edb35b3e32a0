// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"korat/felix/endpoint"
)

// Path is the way from pod to pod on one host, with nothing or with different chains on it.
type Path struct {
	ctx context.Context
	// names are the interfaces of all pods, in order; ends are the pods that there really are.
	names []string
	ends  []end
	// groups are the link groups that the interfaces of these have with each text of chains.
	groups map[string]map[string]uint32
}

// end is a pod with a network namespace.
type end struct {
	name, space string
	address     netip.Addr
}

// pathEnds is how many pods there really are.
const pathEnds = 4

// pathPort is where packets go.
const pathPort = 53

// pathAddress is that of the pod with the i-th name. (Those of others are in sets only.)
func pathAddress(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 65, byte(i >> 8), byte(i)}) }

// Prepare makes the interfaces. The pods that there are stand at even distances among all of them, so that what is
// looked through from one end takes on the average what it takes for all.
func (p *Path) Prepare(pods int, _ *Nothing) error {
	p.names, p.ends, p.groups = nil, nil, nil
	for i := range pods {
		p.names = append(p.names, endpoint.HostInterface("default", fmt.Sprintf("pod-%d", i), endpoint.DefaultIfName))
	}
	slices.Sort(p.names)
	var batch strings.Builder
	for k := range min(pathEnds, pods) {
		i := (2*k + 1) * pods / (2 * min(pathEnds, pods))
		e := end{p.names[i], fmt.Sprintf("end%d", k), pathAddress(i)}
		p.ends = append(p.ends, e)
		fmt.Fprintf(&batch, "netns add %[1]s\nlink add %[2]s address ee:ee:ee:ee:ee:ee type veth peer name eth0 netns %[1]s address %[4]s\n"+
			"link set %[2]s up\nroute add %[3]s dev %[2]s\nneigh add %[3]s lladdr %[4]s dev %[2]s nud permanent\n",
			e.space, e.name, e.address, inputMAC(i))
	}
	if err := ip(p.ctx, batch.String()); err != nil {
		return err
	}
	for _, e := range p.ends {
		batch := fmt.Sprintf("link set lo up\nlink set eth0 up\naddr add %s/32 dev eth0\nroute add 169.254.1.1 dev eth0 scope link\n"+
			"route add default via 169.254.1.1 dev eth0\nneigh add 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent\n", e.address)
		if err := inSpace(e.space, func() error { return ip(p.ctx, batch) }); err != nil {
			return err
		}
	}
	for _, name := range append([]string{"all", "default"}, p.endNames()...) {
		if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+name+"/rp_filter", []byte("0"), 0); err != nil {
			return fmt.Errorf("set rp_filter: %w", err)
		}
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		return fmt.Errorf("set ip_forward: %w", err)
	}
	return nil
}

func (p *Path) endNames() []string {
	var names []string
	for _, e := range p.ends {
		names = append(names, e.name)
	}
	return names
}

// Remove takes them away.
func (p *Path) Remove(Nothing, *Nothing) error {
	var batch strings.Builder
	for _, e := range p.ends {
		fmt.Fprintf(&batch, "link del %s\nnetns del %s\n", e.name, e.space)
	}
	return errors.Join(p.install(""), ip(p.ctx, batch.String()))
}

// inSpace calls f in a network namespace.
func inSpace(name string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocks it: the thread ends with the goroutine
		file, err := os.Open("/run/netns/" + name)
		if err == nil {
			err = errors.Join(unix.Setns(int(file.Fd()), unix.CLONE_NEWNET), file.Close())
		}
		if err != nil {
			done <- fmt.Errorf("enter the network namespace %s: %w", name, err)
			return
		}
		done <- f()
	}()
	return <-done
}

// install puts a text of iptables-restore's in the place of what the packet filter had. Of an empty one nothing is
// left, and the kernel calls no filter.
func (p *Path) install(text string) error {
	var script strings.Builder
	for _, table := range []string{"raw", "mangle", "filter"} {
		fmt.Fprintf(&script, "iptables-nft -t %[1]s -F && iptables-nft -t %[1]s -X && ", table)
	}
	script.WriteString("true")
	if text != "" {
		script.WriteString(" && iptables-nft-restore --noflush")
	}
	cmd := exec.CommandContext(p.ctx, "sh", "-c", script.String())
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("write chains: %w: %s", err, out)
	}
	var batch strings.Builder
	for _, e := range p.ends {
		fmt.Fprintf(&batch, "link set %s group %d\n", e.name, p.groups[text][e.name])
	}
	return ip(p.ctx, batch.String())
}
