// SPDX-License-Identifier: Apache-2.0

package cniplugin_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"korat/cni-plugin/socket"
	"korat/felix/endpoint"
	"korat/test/netns"
)

const (
	onlyIPv6   = `"ipam": {"assign_ipv4": "false", "assign_ipv6": "true"}`
	bothOfThem = `"ipam": {"assign_ipv6": "true"}`
)

// addressPart gives addresses and routes of a result, in one line each.
func addressPart(t *testing.T, result string) string {
	t.Helper()
	var r struct {
		IPs []struct {
			Address, Gateway, Version string
			Interface                 *int
		}
		Routes []struct{ Dst, GW string }
	}
	if err := json.Unmarshal([]byte(result), &r); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, ip := range r.IPs {
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s via %s of %d %s", ip.Address, ip.Gateway, *ip.Interface, ip.Version)))
	}
	for _, route := range r.Routes {
		lines = append(lines, route.Dst+" via "+route.GW)
	}
	return strings.Join(lines, "\n")
}

func TestFamiliesOfResults(t *testing.T) {
	const (
		routes4 = "default via 169.254.1.1 dev eth0 \n169.254.1.1 dev eth0 scope link \n"
		route6  = "default via fe80::ecee:eeff:feee:eeee dev eth0 metric 1024 pref medium\n"
	)
	for _, tt := range []struct{ version, keys, want, routes string }{
		{"0.3.1", bothOfThem, `172.17.8.2/32 via 169.254.1.1 of 1 4
fd00::2/128 via fe80::ecee:eeff:feee:eeee of 1 6
0.0.0.0/0 via 169.254.1.1
::/0 via fe80::ecee:eeff:feee:eeee`, routes4 + route6},
		{"0.4.0", onlyIPv6, `fd00::2/128 via fe80::ecee:eeff:feee:eeee of 1 6
::/0 via fe80::ecee:eeff:feee:eeee`, route6},
		{"1.0.0", onlyIPv6, `fd00::2/128 via fe80::ecee:eeff:feee:eeee of 1
::/0 via fe80::ecee:eeff:feee:eeee`, route6},
		{"1.1.0", bothOfThem, `172.17.8.2/32 via 169.254.1.1 of 1
fd00::2/128 via fe80::ecee:eeff:feee:eeee of 1
0.0.0.0/0 via 169.254.1.1
::/0 via fe80::ecee:eeff:feee:eeee`, routes4 + route6},
	} {
		t.Run(tt.version, func(t *testing.T) {
			h := newHost(t)
			before := netns.Run(t, "ip -o link")
			config := h.config(tt.version, tt.keys)
			result := h.must("ADD", config)
			wantText(t, addressPart(t, result), tt.want)
			wantText(t, netns.InPod(t, h.pod, "ip -4 route")+netns.InPod(t, h.pod, "ip -6 route show default"), tt.routes)
			if again := h.must("ADD", config); again != result {
				t.Errorf("ADD again: have %s, want %s", again, result)
			}
			if tt.version != "0.3.1" {
				h.must("CHECK", strings.Replace(config, "{", `{"prevResult": `+result+`, `, 1))
			}
			h.must("DEL", config)
			wantText(t, netns.Run(t, "ip -o link"), before)
		})
	}
}

func TestRequestOfBothFamilies(t *testing.T) {
	for _, tt := range []struct{ keys, args, want string }{
		{bothOfThem, "", `[{"version":4},{"version":6}] null`},
		{onlyIPv6, "IP=fd00::5", `[{"version":6}] ["fd00::5"]`},
		{bothOfThem, "IP=fd00::5,172.17.8.5", `[{"version":4},{"version":6}] ["fd00::5","172.17.8.5"]`},
		{bothOfThem + `, "runtimeConfig": {"ips": ["fd00::5/64"]}`, "IP=172.17.8.5", `[{"version":4},{"version":6}] ["172.17.8.5","fd00::5"]`},
		{bothOfThem + `, "runtimeConfig": {"ips": ["fd00::5"]}`, "IP=fd00::5", `[{"version":4},{"version":6}] ["fd00::5"]`},
		{`"ipam": {"assign_ipv6": true, "ipv6_pools": ["six"], "ipv4_pools": ["four", "172.17.0.0/16"]}`, "", `[{"version":4,"pools":["four","172.17.0.0/16"]},{"version":6,"pools":["six"]}] null`},
	} {
		h := newHost(t)
		h.must("ADD", h.config("1.0.0", tt.keys), "CNI_ARGS="+tt.args)
		r := h.agent.requests[0]
		families, err := json.Marshal(r.Families)
		if err != nil {
			t.Fatal(err)
		}
		addrs, err := json.Marshal(r.Addresses)
		if err != nil {
			t.Fatal(err)
		}
		wantText(t, string(families)+" "+string(addrs), tt.want)
	}
}

func TestFixedAddressesRefused(t *testing.T) {
	h := newHost(t)
	h.refused(4, []string{`CNI_ARGS: IP=fd00::5: ipam.assign_ipv6 is false: set it to "true" for a pod to have fd00::5`},
		"ADD", h.config("1.0.0", ""), "CNI_ARGS=IP=fd00::5")
	h.refused(4, []string{`CNI_ARGS: IP=172.17.8.5: ipam.assign_ipv4 is false`},
		"ADD", h.config("1.0.0", onlyIPv6), "CNI_ARGS=IP=172.17.8.5")
	h.refused(4, []string{"CNI_ARGS: IP=fd00::5: the network configuration asks for fd00::6: give one of them"},
		"ADD", h.config("1.0.0", bothOfThem+`, "runtimeConfig": {"ips": ["fd00::6"]}`), "CNI_ARGS=IP=172.17.8.5,fd00::5")
	h.agent.wantEvents()
}

func TestChainedIPv6(t *testing.T) {
	h := newHost(t)
	result := h.must("ADD", h.config("1.0.0", bothOfThem+`, "prevResult": {"cniVersion": "1.0.0",
		"interfaces": [{"name": "eth1", "sandbox": "/x"}], "ips": [{"address": "fd01::1/64", "gateway": "fd01::", "interface": 0}],
		"routes": [{"dst": "fd02::/16", "gw": "fd01::"}]}`))
	wantText(t, addressPart(t, result), `fd01::1/64 via fd01:: of 0
172.17.8.2/32 via 169.254.1.1 of 2
fd00::2/128 via fe80::ecee:eeff:feee:eeee of 2
fd02::/16 via fd01::
0.0.0.0/0 via 169.254.1.1
::/0 via fe80::ecee:eeff:feee:eeee`)
}

func TestCheckNamesDeviationsOfIPv6(t *testing.T) {
	hostIf := endpoint.HostInterface("default", "c1", "eth0")
	for _, tt := range []struct {
		name   string
		change func(h *host, result string) string // gives prevResult
		want   []string
	}{
		{"several at once", func(h *host, r string) string {
			netns.InPod(h.t, h.pod, "ip -6 addr del fd00::2/128 dev eth0")
			netns.InPod(h.t, h.pod, "ip -6 route del default")
			netns.InPod(h.t, h.pod, "ip -6 neigh del fe80::ecee:eeff:feee:eeee dev eth0")
			return r
		}, []string{
			"interface eth0 lacks address fd00::2/128", "route default via fe80::ecee:eeff:feee:eeee dev eth0 is missing",
			"permanent neighbour fe80::ecee:eeff:feee:eeee lladdr ee:ee:ee:ee:ee:ee dev eth0 is missing",
		}},
		{"host side gone", func(h *host, r string) string {
			netns.Run(h.t, "ip link set "+hostIf+" netns "+netns.NewPod(h.t))
			return r
		}, []string{"host interface " + hostIf + " is gone"}},
		{"other address", func(_ *host, r string) string {
			return strings.Replace(r, "fd00::2", "fd00::9", 1)
		}, []string{"prevResult gives eth0 [172.17.8.2 fd00::9], the agent [172.17.8.2 fd00::2]"}},
		{"one of the agent's addresses is new", func(h *host, r string) string {
			id := endpoint.ID{ContainerID: "c1", IfName: "eth0"}
			h.agent.mu.Lock()
			defer h.agent.mu.Unlock()
			ep := h.agent.endpoints[id]
			ep.Addresses = []netip.Addr{ep.Addresses[0], netip.MustParseAddr("fd00::7")}
			h.agent.endpoints[id] = ep
			return r
		}, []string{"the agent [172.17.8.2 fd00::7]", "interface eth0 lacks address fd00::7/128", `alias "korat default/c1 c1/eth0 172.17.8.2,fd00::2", want `}},
		{"a later plugin's MAC", func(h *host, r string) string {
			netns.InPod(h.t, h.pod, "ip link set eth0 address 02:00:00:00:00:01")
			return strings.Replace(r, podMACOf(h, r), "02:00:00:00:00:01", 1)
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			result := h.must("ADD", h.config("1.0.0", bothOfThem))
			config := h.config("1.0.0", `"prevResult": `+tt.change(h, result))
			if tt.want == nil {
				h.must("CHECK", config)
				return
			}
			h.refused(socket.CodeInternal, tt.want, "CHECK", config)
		})
	}
}

// podMACOf gives the MAC of the pod's side as a result has it.
func podMACOf(h *host, result string) string {
	h.t.Helper()
	var r struct {
		Interfaces []struct{ Mac, Sandbox string }
	}
	if err := json.Unmarshal([]byte(result), &r); err != nil {
		h.t.Fatal(err)
	}
	for _, i := range r.Interfaces {
		if i.Sandbox != "" {
			return i.Mac
		}
	}
	h.t.Fatalf("no interface of a pod in %s", result)
	return ""
}
