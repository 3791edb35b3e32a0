// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// both gives an interface an address of each family.
func both(s *Switch, ipv4, ipv6 string) Interface {
	i := on(s, ipv4)
	i.IPv6 = netip.MustParsePrefix(ipv6)
	return i
}

func TestDualStackHosts(t *testing.T) {
	l := newLab(t)
	left, right := newSwitch(t, l, "left"), newSwitch(t, l, "right")
	newHost(t, l, HostConfig{Name: "router", Router: true, Interfaces: []Interface{
		both(left, "192.0.2.1/25", "2001:db8:1::1/64"), both(right, "192.0.2.129/25", "2001:db8:2::1/64"),
	}})
	a := newHost(t, l, HostConfig{
		Name: "a", Interfaces: []Interface{both(left, "192.0.2.2/25", "2001:db8:1::2/64")},
		Gateway: netip.MustParseAddr("192.0.2.1"), IPv6Gateway: netip.MustParseAddr("2001:db8:1::1"),
	})
	b := newHost(t, l, HostConfig{
		Name: "b", Interfaces: []Interface{{Switch: right, IPv6: netip.MustParsePrefix("2001:db8:2::2/64")}},
		IPv6Gateway: netip.MustParseAddr("2001:db8:2::1"),
	})
	if have := fmt.Sprint(a.Address(), a.Addresses(), IPv6Of(a), b.Address(), b.Addresses(), IPv6Of(b)); have !=
		"192.0.2.2 [192.0.2.2 2001:db8:1::2] 2001:db8:1::2 2001:db8:2::2 [2001:db8:2::2] 2001:db8:2::2" {
		t.Error("addresses", have)
	}
	if _, err := Ping(limit(t), a, IPv6Of(b)); err != nil {
		t.Errorf("no answer through one router: %v", err)
	}
	if have := run(t, a, "ip", "-6", "address", "show", "dev", "eth0"); strings.Contains(have, "tentative") {
		t.Errorf("an address is not in use yet:\n%s", have)
	}
	if have := run(t, a, "sysctl", "-n", "net.ipv6.conf.all.forwarding", "net.ipv6.conf.eth0.accept_ra"); have != "0\n1\n" {
		t.Errorf("forwarding and accept_ra are %q", have)
	}
}

func TestFamilies(t *testing.T) {
	for text, want := range map[string]string{
		"ipv4": `<nil> {"cniVersion":"1.0.0","name":"korat","type":"korat"}`,
		"ipv6": `<nil> {"cniVersion":"1.0.0","name":"korat","type":"korat","ipam":{"type":"korat-ipam","assign_ipv4":"false","assign_ipv6":"true"}}`,
		"dual": `<nil> {"cniVersion":"1.0.0","name":"korat","type":"korat","ipam":{"type":"korat-ipam","assign_ipv4":"true","assign_ipv6":"true"}}`,
		"":     `"": want ipv4, ipv6 or dual ` + NetworkConfig,
	} {
		f, err := ParseFamilies(text)
		if have := fmt.Sprint(err, " ", f.network()); have != want {
			t.Errorf("%q: have %s, want %s", text, have, want)
		}
	}
}
