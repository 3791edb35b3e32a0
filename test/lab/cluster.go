// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
)

// MaxClusterHosts is how many fit between 192.168.100.100 and .199.
const MaxClusterHosts = 100

// etcdPort is where the first host's agent serves etcd.
const etcdPort = 2379

// Cluster is hosts a, b, c… on one switch, with the addresses 192.168.100.100, .101, .102…, and
// fd00:192:168::100, ::101, ::102… The first one's agent runs the embedded etcd server, with TLS, and the
// others' are its clients.
type Cluster struct {
	*Lab
	Switch *Switch
	// Agents has one for each host once StartAgents has returned.
	Agents []*Agent
	// Authority signed the certificates in /etc/korat/tls of each host.
	Authority *Authority
}

// ClusterConfig describes a cluster.
type ClusterConfig struct {
	Config
	// Hosts is how many [3].
	Hosts int
	// Settings are lines for every host's korat-node.yaml.
	Settings string
}

// NewCluster makes the hosts and their configuration files; StartAgents starts the agents.
func NewCluster(ctx context.Context, config ClusterConfig) (*Cluster, error) {
	if config.Hosts == 0 {
		config.Hosts = 3
	}
	if config.Hosts < 1 || config.Hosts > MaxClusterHosts {
		return nil, fmt.Errorf("make cluster: %d hosts: want 1 to %d", config.Hosts, MaxClusterHosts)
	}
	l, err := New(ctx, config.Config)
	if err != nil {
		return nil, err
	}
	c := &Cluster{Lab: l}
	if err := c.make(ctx, config); err != nil {
		return nil, errors.Join(fmt.Errorf("make cluster: %w", err), l.Close())
	}
	return c, nil
}

func (c *Cluster) make(ctx context.Context, config ClusterConfig) error {
	var err error
	if c.Authority, err = NewAuthority(); err != nil {
		return err
	}
	if c.Switch, err = c.Lab.Switch(ctx, "lan"); err != nil {
		return err
	}
	for i := range config.Hosts {
		h, err := c.Host(ctx, HostConfig{
			Name:       clusterHostName(i),
			Interfaces: []Interface{c.uplink(i)},
		})
		if err != nil {
			return err
		}
		if err := c.configure(h, config.Settings); err != nil {
			return err
		}
	}
	return nil
}

// clusterHostName gives a to z, then h26, h27…
func clusterHostName(i int) string {
	if i < 26 {
		return string(rune('a' + i))
	}
	return fmt.Sprintf("h%d", i)
}

// uplink is the i-th host's interface.
func (c *Cluster) uplink(i int) Interface {
	iface := Interface{Switch: c.Switch}
	if c.config.Families.ipv4() {
		iface.Address = netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, 100, byte(100 + i)}), 24)
	}
	if c.config.Families.ipv6() {
		// The last part reads as in the IPv4 address.
		iface.IPv6 = netip.MustParsePrefix(fmt.Sprintf("fd00:192:168::%d/64", 100+i))
	}
	return iface
}

// tlsSettings name the files that configure writes; korat-node and koratctl know the same keys.
const tlsSettings = "etcd-ca: /etc/korat/tls/ca.pem\netcd-cert: /etc/korat/tls/node.pem\netcd-key: /etc/korat/tls/node-key.pem\n"

// configure writes a host's files, as docs/install.md has them.
func (c *Cluster) configure(h *Host, settings string) error {
	cert, key, err := c.Authority.Issue(h.Name, append(h.Addresses(), netip.AddrFrom4([4]byte{127, 0, 0, 1}))...)
	if err != nil {
		return err
	}
	server := netip.AddrPortFrom(c.Hosts()[0].Address(), etcdPort)
	endpoints := fmt.Sprintf("datastore: etcd\netcd-endpoints: [\"https://%s\"]\n", server)
	datastore := endpoints
	if h.Address() == server.Addr() {
		datastore = fmt.Sprintf("datastore: embedded\nembedded-listen: \"%s\"\n", server)
	}
	families := c.config.Families
	return errors.Join(
		h.WriteFile("/etc/korat/tls/ca.pem", c.Authority.PEM, 0o644),
		h.WriteFile("/etc/korat/tls/node.pem", cert, 0o644),
		h.WriteFile("/etc/korat/tls/node-key.pem", key, 0o600),
		h.WriteFile("/etc/korat/korat-node.yaml", []byte(datastore+tlsSettings+families.settings()+settings), 0o600),
		h.WriteFile("/etc/korat/koratctl.yaml", []byte(endpoints+tlsSettings), 0o600),
		h.WriteFile("/etc/cni/net.d/10-korat.conf", []byte(families.network()+"\n"), 0o644),
	)
}

// StartAgents starts every host's agent at the same time.
func (c *Cluster) StartAgents() error {
	for _, h := range c.Hosts() {
		agent, err := h.StartAgent()
		if err != nil {
			return err
		}
		c.Agents = append(c.Agents, agent)
	}
	return nil
}

// WaitReady waits for all agents.
func (c *Cluster) WaitReady(ctx context.Context) error {
	errs := make([]error, len(c.Agents))
	var all sync.WaitGroup
	for i, agent := range c.Agents {
		all.Go(func() { errs[i] = agent.WaitReady(ctx) })
	}
	all.Wait()
	return errors.Join(errs...)
}
