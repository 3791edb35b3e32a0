// SPDX-License-Identifier: Apache-2.0

package autodetect

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"korat/api"
	"korat/felix/dataplane"
)

func host() dataplane.Host {
	link := func(index int, running bool, addrs ...string) dataplane.HostLink {
		l := dataplane.HostLink{Index: index, Up: true, Running: running, IPv6: true}
		for _, text := range addrs {
			text, unsettled := strings.CutSuffix(text, " unsettled")
			p := netip.MustParsePrefix(text)
			l.Addresses = append(l.Addresses, p)
			if unsettled {
				l.Unsettled = append(l.Unsettled, p.Addr())
			}
		}
		return l
	}
	return dataplane.Host{Links: map[string]dataplane.HostLink{
		"lo":      link(1, true, "127.0.0.1/8", "::1/128", "10.9.9.9/32", "fd00:9::9/128"),
		"docker0": link(2, true, "172.18.0.1/16", "fd00:18::1/64"),
		"eth2":    link(3, false, "10.0.2.1/24", "fd00:2::1/64"),
		"eth1":    link(4, true, "fe80::1/64", "fd00:1::7/64 unsettled", "fd00:1::1/64", "fd00:1::2/64", "169.254.7.7/16", "10.0.1.1/24", "10.0.1.2/24"),
		"eth0":    link(5, true, "192.168.100.100/24", "fd00:192:168::100/64"),
	}}
}

func TestChoose(t *testing.T) {
	for _, c := range []struct{ method, want string }{
		{"IPv4", "eth1 10.0.1.1/24"},
		{"IPv4 first-found", "eth1 10.0.1.1/24"},
		{"IPv4 interface=eth0", "eth0 192.168.100.100/24"},
		{"IPv4 interface=eth2", "no address found by method interface=eth2 among lo 10.9.9.9/32, docker0 172.18.0.1/16, eth1 10.0.1.1/24, eth1 10.0.1.2/24, " +
			"eth0 192.168.100.100/24: set the address with --ip, or another --ip-autodetection-method"}, // no carrier
		{"IPv4 interface=lo", "lo 10.9.9.9/32"}, // named on purpose
		{"IPv4 interface=x.*,eth[0]", "eth0 192.168.100.100/24"},
		{"IPv4 interface=eth", "no address found"}, // whole names only
		{"IPv4 skip-interface=eth1", "eth0 192.168.100.100/24"},
		{"IPv4 cidr=192.168.0.0/16", "eth0 192.168.100.100/24"},
		{"IPv4 cidr=172.18.0.0/16", "no address found"}, // docker's
		{"IPv4 cidr=172.30.0.0/16,10.0.1.2/31", "eth1 10.0.1.2/24"},
		{"IPv4 can-reach=192.168.100.1", "eth0 192.168.100.100/24"},
		{"IPv4 can-reach=10.0.2.9", "which no running interface carries"},
		{"IPv4 can-reach=192.0.2.1", "network is unreachable"},
		{"IPv6", "eth1 fd00:1::1/64"}, // neither link-local nor unsettled
		{"IPv6 first-found", "eth1 fd00:1::1/64"},
		{"IPv6 interface=eth0", "eth0 fd00:192:168::100/64"},
		{"IPv6 interface=eth2", "no address found by method interface=eth2 among lo fd00:9::9/128, docker0 fd00:18::1/64, eth1 fd00:1::1/64, eth1 fd00:1::2/64, " +
			"eth0 fd00:192:168::100/64: set the address with --ip6, or another --ip6-autodetection-method"},
		{"IPv6 interface=lo", "lo fd00:9::9/128"},
		{"IPv6 skip-interface=eth1", "eth0 fd00:192:168::100/64"},
		{"IPv6 cidr=fd00:192::/32", "eth0 fd00:192:168::100/64"},
		{"IPv6 cidr=fd00:1::7/128", "no address found"},
		{"IPv6 cidr=fd00:18::/64,fd00:1::2/127", "eth1 fd00:1::2/64"},
		{"IPv6 can-reach=fd00:192:168::1", "eth0 fd00:192:168::100/64"},
		{"IPv6 can-reach=fd00:2::9", "the kernel would send from fd00:2::1, which no running interface carries: lo fd00:9::9/128, docker0"},
		{"IPv6 can-reach=2001:db8::1", "network is unreachable"},
	} {
		m := parse(t, c.method)
		got, err := m.Choose(host(), func(dest netip.Addr) (netip.Addr, error) {
			for from, to := range map[string]string{
				"192.168.100.1": "192.168.100.100", "fd00:192:168::1": "fd00:192:168::100",
				"10.0.2.9": "10.0.2.1", "fd00:2::9": "fd00:2::1",
			} {
				if dest.String() == from {
					return netip.MustParseAddr(to), nil
				}
			}
			return netip.Addr{}, errors.New("network is unreachable")
		})
		text := got.Interface + " " + got.Address.String()
		if err != nil {
			text = err.Error()
		}
		if !strings.Contains(text, c.want) {
			t.Errorf("%s: got %s, want %s", c.method, text, c.want)
		}
	}
}

// parse reads a family and a method.
func parse(t *testing.T, text string) Method {
	t.Helper()
	family := api.IPv4
	if strings.HasPrefix(text, api.IPv6.String()) {
		family = api.IPv6
	}
	_, method, _ := strings.Cut(text, " ")
	m, err := Parse(method, family)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return m
}

// An operator is told why there is no address at all.
func TestNoAddress(t *testing.T) {
	for _, c := range []struct{ method, address, want string }{
		{"IPv4", "fd00::1/64", "method first-found: no IPv4 address on any running interface: set"},
		{"IPv6", "10.0.0.1/24", "method first-found: no IPv6 address on any running interface, but for link-local, temporary, tentative and deprecated ones (is the sysctl disable_ipv6 of its interface 1?): set"},
		{"IPv6 can-reach=fd00::1", "10.0.0.1/24", "no route: no IPv6 address on any running interface"},
	} {
		h := dataplane.Host{Links: map[string]dataplane.HostLink{"eth0": {Running: true, IPv6: true, Addresses: []netip.Prefix{netip.MustParsePrefix(c.address)}}}}
		none := func(netip.Addr) (netip.Addr, error) { return netip.Addr{}, errors.New("no route") }
		if _, err := parse(t, c.method).Choose(h, none); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", c.method, err, c.want)
		}
		off := h.Links["eth0"]
		off.IPv6 = false
		h.Links["eth0"] = off
		const want = "no IPv6 address, as this kernel has no IPv6 (was it started with ipv6.disable=1?)"
		if _, err := parse(t, c.method).Choose(h, none); strings.HasPrefix(c.method, "IPv6") && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", c.method, err, want)
		}
	}
}

// What a node is known by stays, settled or not, link up or down; only a choice anew is choosy.
func TestFind(t *testing.T) {
	for address, want := range map[string]string{
		"10.0.1.2": "eth1 eth1", "10.0.2.1": "- eth2", "fd00:2::1": "- eth2", "fd00:1::7": "eth1 eth1", "fd00:7::7": "- -", "fe80::1": "- -", "::1": "- -",
	} {
		var names []string
		for _, find := range []func(dataplane.Host, netip.Addr) (Choice, bool){Find, FindAny} {
			c, ok := find(host(), netip.MustParseAddr(address))
			if !ok {
				c.Interface = "-"
			}
			names = append(names, c.Interface)
		}
		if have := strings.Join(names, " "); have != want {
			t.Errorf("%s: have %s, want %s", address, have, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for family, texts := range map[api.Family][]string{
		api.IPv4: {"fastest", "can-reach", "can-reach=", "can-reach=router.example.com", "can-reach=fd00::1", "can-reach=10.0.0.1/24", "interface=(", "cidr=10.0.0.0", "cidr=10.0.0.0/33", "cidr=fd00::/64"},
		api.IPv6: {"can-reach=10.0.0.1", "can-reach=::ffff:10.0.0.1", "can-reach=fe80::1%eth0", "cidr=10.0.0.0/8", "cidr=fd00::/64,10.0.0.0/8"},
	} {
		for _, text := range texts {
			if _, err := Parse(text, family); err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%s %s: got %v, want an error that names it", family, text, err)
			}
		}
	}
}
