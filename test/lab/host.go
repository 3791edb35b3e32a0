// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"korat/test/lab/sandbox"
)

// HostConfig describes a host.
type HostConfig struct {
	// Name is the host name: a DNS label.
	Name string
	// Interfaces become eth0, eth1 and so on.
	Interfaces []Interface
	// Gateway is the next hop of the IPv4 default route, and IPv6Gateway that of IPv6; without one there is
	// no such route.
	Gateway, IPv6Gateway netip.Addr
	// Router makes the host forward packets of both families, without reverse path filtering.
	Router bool
}

// Interface is a cable from a host to a switch.
type Interface struct {
	Switch *Switch
	// Address, of IPv4, and its on-link prefix; optional.
	Address netip.Prefix
	// IPv6 is the same of IPv6.
	IPv6 netip.Prefix
	// MTU in bytes [1500].
	MTU int
}

// Host is a machine of the lab.
type Host struct {
	Name  string
	lab   *Lab
	space *space
	// addresses are those of the first interface that has any, IPv4 first.
	addresses []netip.Addr
	// pods and processes are guarded by the lab's mutex.
	pods      []*Pod
	processes []*Process
}

var hostName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// Host makes a host and connects it.
func (l *Lab) Host(ctx context.Context, config HostConfig) (*Host, error) {
	if !hostName.MatchString(config.Name) {
		return nil, fmt.Errorf("make host %q: the name must be a DNS label (a-z, 0-9, -; 63 at most)", config.Name)
	}
	h := &Host{Name: config.Name, lab: l}
	for _, i := range config.Interfaces {
		if len(h.addresses) == 0 {
			h.addresses = slices.DeleteFunc([]netip.Addr{i.Address.Addr(), i.IPv6.Addr()}, func(a netip.Addr) bool { return !a.IsValid() })
		}
	}
	if err := l.add(h); err != nil {
		return nil, fmt.Errorf("make host %s: %w", config.Name, err)
	}
	if err := h.make(ctx, config); err != nil {
		l.remove(h)
		return nil, fmt.Errorf("make host %s: %w", config.Name, err)
	}
	l.log.Info("host made", "host", h.Name, "addresses", h.addresses)
	return h, nil
}

// make makes the namespaces and what is in them.
func (h *Host) make(ctx context.Context, config HostConfig) error {
	s, err := startSpace(ctx, spaceConfig{name: config.Name, dirs: sandbox.Private(), sysctls: hostSysctls(config)})
	if err != nil {
		return err
	}
	h.space = s
	if err := h.installPlugin(); err != nil {
		return errors.Join(err, s.close())
	}
	if err := h.connect(ctx, config); err != nil {
		return errors.Join(err, s.close())
	}
	return nil
}

// add takes a host into the lab's list.
func (l *Lab) add(h *Host) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if slices.ContainsFunc(l.hosts, func(other *Host) bool { return other.Name == h.Name }) {
		return errors.New("there is one of that name")
	}
	l.hosts = append(l.hosts, h)
	return nil
}

func (l *Lab) remove(h *Host) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hosts = slices.DeleteFunc(l.hosts, func(other *Host) bool { return other == h })
}

// hostSysctls gives a host what a fresh Debian has. (A new network namespace takes its IPv4 settings
// from the machine's first one: net.core.devconf_inherit_init_net.)
func hostSysctls(config HostConfig) []string {
	forward, rpFilter := 0, 2
	if config.Router {
		forward, rpFilter = 1, 0
	}
	return []string{
		fmt.Sprintf("net/ipv4/ip_forward=%d", forward),
		fmt.Sprintf("net/ipv6/conf/all/forwarding=%d", forward),
		"net/ipv4/conf/all/rp_filter=0",
		fmt.Sprintf("net/ipv4/conf/default/rp_filter=%d", rpFilter),
		"net/ipv4/conf/all/proxy_arp=0", "net/ipv4/conf/default/proxy_arp=0",
		"net/ipv4/conf/all/arp_ignore=0", "net/ipv4/conf/all/arp_announce=0",
		// Addresses of a lab are known to be unique, and detection delays them by a second or two.
		"net/ipv6/conf/all/accept_dad=0", "net/ipv6/conf/default/accept_dad=0",
	}
}

// installPlugin puts the CNI plugin where runtimes look for it, and makes the lock directory.
func (h *Host) installPlugin() error {
	plugin := filepath.Join(h.lab.config.BinDir, "korat")
	return errors.Join(
		os.Symlink(plugin, h.path("/opt/cni/bin/korat")),
		os.Mkdir(h.path("/run/lock"), 0o1777),
	)
}

// connect plugs the cables in and sets addresses and routes.
func (h *Host) connect(ctx context.Context, config HostConfig) error {
	var outside, inside strings.Builder
	var ports []string
	for i, iface := range config.Interfaces {
		if iface.Switch == nil {
			return fmt.Errorf("interface %d: names no switch", i)
		}
		name, mtu := fmt.Sprintf("eth%d", i), iface.MTU
		if mtu == 0 {
			mtu = 1500
		}
		port := h.lab.port(h.Name, name)
		ports = append(ports, port)
		fmt.Fprintf(&outside, "link add %s mtu %d type veth peer name %s mtu %d netns %d\n", port, mtu, name, mtu, h.space.pid)
		fmt.Fprintf(&outside, "link set %s master %s up\n", port, iface.Switch.Name)
		for _, p := range []netip.Prefix{iface.Address, iface.IPv6} {
			if p.IsValid() {
				fmt.Fprintf(&inside, "addr add %s dev %s%s\n", p, name, nodad(p))
			}
		}
		fmt.Fprintf(&inside, "link set %s up\n", name)
	}
	for _, gateway := range []netip.Addr{config.Gateway, config.IPv6Gateway} {
		if gateway.IsValid() {
			fmt.Fprintf(&inside, "route add default via %s\n", gateway)
		}
	}
	if err := h.lab.backbone.ip(ctx, outside.String()); err != nil {
		return err
	}
	if err := h.space.ip(ctx, inside.String()); err != nil {
		return err
	}
	return h.lab.awaitForwarding(ctx, ports)
}

// nodad goes with the address as it is known to be unique.
func nodad(p netip.Prefix) string {
	if p.Addr().Is4() {
		return ""
	}
	return " nodad"
}

// Address is the first of Addresses; invalid if there is none.
func (h *Host) Address() netip.Addr {
	for _, a := range h.addresses {
		return a
	}
	return netip.Addr{}
}

// Addresses are those of the first interface that has any, IPv4 first.
func (h *Host) Addresses() []netip.Addr { return slices.Clone(h.addresses) }

// path is where a file of the host can be reached from here.
func (h *Host) path(file string) string { return filepath.Join(h.space.root(), file) }

// WriteFile writes a file of the host and makes its directory.
func (h *Host) WriteFile(file string, data []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(h.path(file)), 0o755); err != nil {
		return fmt.Errorf("write %s on %s: %w", file, h.Name, err)
	}
	if err := os.WriteFile(h.path(file), data, mode); err != nil {
		return fmt.Errorf("write %s on %s: %w", file, h.Name, err)
	}
	return nil
}

// Command returns a command that runs on the host; its process is the program itself. It starts in
// the host's root directory.
func (h *Host) Command(ctx context.Context, argv ...string) *exec.Cmd {
	return h.lab.command(ctx, h.space.enter(argv...))
}

// Exec runs a program on the host and returns its standard output. An error carries the command line
// and the standard error.
func (h *Host) Exec(ctx context.Context, argv ...string) (string, error) {
	return output(h.Command(ctx, argv...), h.Name, argv)
}

// Start starts a program that stays. Its output goes to the file HOST-NAME.log of the lab's directory.
func (h *Host) Start(name string, argv ...string) (*Process, error) {
	return h.start(name, h.space.enter(argv...))
}

// Close kills whatever runs on the host, as a power cut does. The host stays in the list.
func (h *Host) Close() error { return h.space.close() }

// waitDelay bounds how long output is read from a program that has ended.
const waitDelay = 5 * time.Second

// command runs with an environment that nothing of the caller's shell can disturb.
func (l *Lab) command(ctx context.Context, argv []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	// A daemon that keeps our pipe open must not hold us up for ever.
	cmd.WaitDelay = waitDelay
	path := l.config.BinDir + ":" + os.Getenv("PATH")
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "KORAT_") && !strings.HasPrefix(entry, "CNI_") &&
			!strings.HasPrefix(entry, "LAB_SANDBOX") && !strings.HasPrefix(entry, "PATH=") {
			cmd.Env = append(cmd.Env, entry)
		}
	}
	cmd.Env = append(cmd.Env, "PATH="+path)
	return cmd
}

// output runs a command to its end.
func output(cmd *exec.Cmd, where string, argv []string) (string, error) {
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("run %q on %s: %w: %s", strings.Join(argv, " "), where, err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}
