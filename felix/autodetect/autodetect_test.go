// SPDX-License-Identifier: Apache-2.0

package autodetect

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"korat/felix/dataplane"
)

func host() dataplane.Host {
	link := func(index int, running bool, addrs ...string) dataplane.HostLink {
		l := dataplane.HostLink{Index: index, Up: true, Running: running}
		for _, a := range addrs {
			l.Addresses = append(l.Addresses, netip.MustParsePrefix(a))
		}
		return l
	}
	return dataplane.Host{Links: map[string]dataplane.HostLink{
		"lo":      link(1, true, "127.0.0.1/8", "10.9.9.9/32"),
		"docker0": link(2, true, "172.18.0.1/16"),
		"eth2":    link(3, false, "10.0.2.1/24"),
		"eth1":    link(4, true, "fd00::1/64", "169.254.7.7/16", "10.0.1.1/24", "10.0.1.2/24"),
		"eth0":    link(5, true, "192.168.100.100/24"),
	}}
}

func TestChoose(t *testing.T) {
	for _, c := range []struct{ method, want string }{
		{"", "eth1 10.0.1.1/24"},
		{"first-found", "eth1 10.0.1.1/24"},
		{"interface=eth0", "eth0 192.168.100.100/24"},
		{"interface=eth2", "no address found by method interface=eth2"}, // no carrier
		{"interface=lo", "lo 10.9.9.9/32"},                              // named on purpose
		{"interface=x.*,eth[0]", "eth0 192.168.100.100/24"},
		{"interface=eth", "no address found"}, // whole names only
		{"skip-interface=eth1", "eth0 192.168.100.100/24"},
		{"cidr=192.168.0.0/16", "eth0 192.168.100.100/24"},
		{"cidr=172.18.0.0/16", "no address found"}, // docker's
		{"cidr=172.30.0.0/16,10.0.1.2/31", "eth1 10.0.1.2/24"},
		{"can-reach=192.168.100.1", "eth0 192.168.100.100/24"},
		{"can-reach=10.0.2.9", "which no running interface carries"},
		{"can-reach=192.0.2.1", "network is unreachable"},
	} {
		m, err := Parse(c.method)
		if err != nil {
			t.Fatalf("%s: %v", c.method, err)
		}
		got, err := m.Choose(host(), func(dest netip.Addr) (netip.Addr, error) {
			switch dest.String() {
			case "192.168.100.1":
				return netip.MustParseAddr("192.168.100.100"), nil
			case "10.0.2.9":
				return netip.MustParseAddr("10.0.2.1"), nil
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

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{"fastest", "can-reach", "can-reach=", "can-reach=router.example.com", "can-reach=fd00::1", "can-reach=10.0.0.1/24", "interface=(", "cidr=10.0.0.0", "cidr=10.0.0.0/33"} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: got %v, want an error that names it", text, err)
		}
	}
}
