// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"korat/test/lab/sandbox"
)

// Config says where a lab finds and leaves files.
type Config struct {
	// Dir receives the log of every process; it is made if absent.
	Dir string
	// BinDir holds korat-node, korat and koratctl. It comes first in every host's PATH.
	BinDir string
	// Families are those that pods get addresses of [IPv4].
	Families Families
	// Log receives what the lab does; nil discards it.
	Log *slog.Logger
}

// Lab is a network of hosts. Its methods may be called concurrently.
type Lab struct {
	config Config
	log    *slog.Logger
	// backbone is the namespace that holds the switches.
	backbone *space

	mu       sync.Mutex
	switches map[string]*Switch
	hosts    []*Host
	ports    int
}

// Switch is an Ethernet switch: a bridge without spanning tree, and without an address of its own.
type Switch struct {
	Name string
}

// New makes a lab without any host.
func New(ctx context.Context, config Config) (*Lab, error) {
	if !sandbox.Inside() {
		return nil, errors.New("make lab: not in a sandbox: start the program through sandbox.Main or sandbox.Run")
	}
	var err error
	for _, dir := range []*string{&config.Dir, &config.BinDir} {
		// Programs in a host start in its root directory, so relative names would not be found.
		if *dir, err = filepath.Abs(*dir); err != nil {
			return nil, fmt.Errorf("make lab: %w", err)
		}
	}
	if err := os.MkdirAll(config.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make lab: %w", err)
	}
	log := config.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	backbone, err := startSpace(ctx, spaceConfig{
		name: "backbone",
		// The bridges must pass frames on and say nothing themselves.
		sysctls: []string{"net/ipv6/conf/all/disable_ipv6=1", "net/ipv6/conf/default/disable_ipv6=1"},
	})
	if err != nil {
		return nil, fmt.Errorf("make lab: %w", err)
	}
	return &Lab{config: config, log: log, backbone: backbone, switches: map[string]*Switch{}}, nil
}

// Close kills every process of the lab; its namespaces go with them.
func (l *Lab) Close() error {
	var errs []error
	for _, h := range l.Hosts() {
		errs = append(errs, h.Close())
	}
	return errors.Join(append(errs, l.backbone.close())...)
}

// Dir is where the logs are.
func (l *Lab) Dir() string { return l.config.Dir }

// Hosts returns the hosts in the order in which they were made.
func (l *Lab) Hosts() []*Host {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.hosts)
}

// interfaceName is what the kernel takes for a link (IFNAMSIZ is 16 with the final zero).
var interfaceName = regexp.MustCompile(`^[a-z0-9][-a-z0-9_.]{0,14}$`)

// Switch makes a switch.
func (l *Lab) Switch(ctx context.Context, name string) (*Switch, error) {
	if !interfaceName.MatchString(name) {
		return nil, fmt.Errorf("make switch %q: the name must be 1 to 15 of a-z 0-9 - _ . and start with a letter or digit", name)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.switches[name] != nil {
		return nil, fmt.Errorf("make switch %s: there is one of that name", name)
	}
	batch := fmt.Sprintf("link add %[1]s type bridge stp_state 0 forward_delay 0 mcast_snooping 0\nlink set %[1]s up\n", name)
	if err := l.backbone.ip(ctx, batch); err != nil {
		return nil, fmt.Errorf("make switch %s: %w", name, err)
	}
	l.switches[name] = &Switch{Name: name}
	l.log.Info("switch made", "switch", name)
	return l.switches[name], nil
}

// port returns a name for a switch's end of a cable.
func (l *Lab) port(host, iface string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ports++
	if name := host + "." + iface; interfaceName.MatchString(name) && l.switches[name] == nil {
		return name
	}
	return fmt.Sprintf("port.%d", l.ports)
}

// awaitForwarding waits until the switches pass frames of the ports on. (A bridge learns of a port's
// carrier from the kernel's link watch, which speaks once a second.)
func (l *Lab) awaitForwarding(ctx context.Context, ports []string) error {
	return Until(ctx, "switch ports forward", func(ctx context.Context) error {
		for _, port := range ports {
			out, err := l.backbone.run(ctx, "bridge", "link", "show", "dev", port)
			if err != nil {
				return err
			}
			if !strings.Contains(out, " state forwarding ") {
				return fmt.Errorf("port %s does not: %s", port, strings.TrimSpace(out))
			}
		}
		return nil
	})
}
