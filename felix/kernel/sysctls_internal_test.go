// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"strings"
	"testing"

	"korat/felix/dataplane"
)

func TestSysctlInterface(t *testing.T) {
	for key, want := range map[string]string{
		"net/ipv4/conf/cali1/rp_filter": "cali1", "net/ipv6/neigh/cali1/proxy_delay": "cali1", "net/ipv4/conf/all/forwarding": "all",
		"net/ipv4/ip_forward": "", "net/ipv4/conf/cali1": "", "net/ipv4/conf/cali1/rp_filter/x": "", "fs/ipv4/conf/cali1/rp_filter": "",
		"net/netfilter/nf_conntrack_count": "", "net/ipv4/route/cali1/x": "", "ipv4/conf/cali1/rp_filter": "", "": "",
	} {
		if have := sysctlInterface(key); have != want {
			t.Errorf("%s: have %q, want %q", key, have, want)
		}
	}
}

func TestSysctlsInOrder(t *testing.T) {
	want := []string{
		"net/ipv6/conf/eth0/accept_ra",
		"net/ipv4/conf/all/rp_filter", "net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding",
		"net/ipv4/conf/cali1/rp_filter",
		"net/ipv4/conf/cali1/forwarding", "net/ipv4/conf/cali1/proxy_arp", "net/ipv4/neigh/cali1/proxy_delay",
	}
	set := map[string]dataplane.SysctlValue{}
	for _, key := range want {
		set[key] = "1"
	}
	if have := strings.Join(inOrder(set), "\n"); have != strings.Join(want, "\n") {
		t.Errorf("have\n%s\nwant\n%s", have, strings.Join(want, "\n"))
	}
}
