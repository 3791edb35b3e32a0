// SPDX-License-Identifier: Apache-2.0

package podnet

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"korat/felix/endpoint"
	"korat/test/netns"
)

func TestDelete(t *testing.T) {
	id := endpoint.ID{ContainerID: "c1", IfName: "eth0"}
	other := endpoint.ID{ContainerID: "c2", IfName: "eth0"}
	const hostIf = "cali0123456789a"
	tests := []struct {
		name    string
		id      endpoint.ID
		prepare func(t *testing.T, pod string)
		netNS   func(pod string) string
		hostIf  string
		stays   string // the host's interfaces of ours that stay
	}{
		{"both known", id, nil, nil, hostIf, ""},
		{"host's name unknown", id, nil, nil, "cali00000000000", ""},
		{"namespace unknown", id, nil, func(string) string { return "" }, hostIf, ""},
		{"namespace gone", id, nil, func(string) string { return "/proc/self/fd/absent" }, hostIf, ""},
		{"pod renamed it", id, func(t *testing.T, pod string) {
			netns.InPod(t, pod, "ip link set eth0 down")
			netns.InPod(t, pod, "ip link set eth0 name other")
		}, nil, hostIf, ""},
		{"host's side renamed", id, func(t *testing.T, _ string) {
			netns.Run(t, "ip link set "+hostIf+" down")
			netns.Run(t, "ip link set "+hostIf+" name strange")
		}, nil, hostIf, ""},
		{"of another container", other, nil, nil, hostIf, hostIf},
		{"maker was killed", id, killedMaker, nil, hostIf, ""},
		{"maker was killed, and the agent set up the host's side", id, killedMakerOfKnown, nil, hostIf, ""},
		{"gone already", id, func(t *testing.T, _ string) { netns.Run(t, "ip link del "+hostIf) }, nil, hostIf, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			netns.Enter(t)
			pod := netns.NewPod(t)
			create(t, pairIn(pod))
			if tt.prepare != nil {
				tt.prepare(t, pod)
			}
			path := pod
			if tt.netNS != nil {
				path = tt.netNS(pod)
			}
			for range 2 {
				if err := Delete(tt.id, path, tt.hostIf); err != nil {
					t.Fatal(err)
				}
			}
			wantInterfaces(t, tt.stays)
		})
	}
}

// killedMaker puts a pair without anything in the pair's place.
func killedMaker(t *testing.T, pod string) {
	t.Helper()
	netns.Run(t, "ip link del "+pairIn(pod).Interface)
	e, err := openEdge(pod)
	if err != nil {
		t.Fatal(err)
	}
	defer e.close()
	if _, err := e.addPair(pairIn(pod), hostMAC()); err != nil {
		t.Fatal(err)
	}
}

// killedMakerOfKnown is killedMaker with an agent that knows the attachment from before.
func killedMakerOfKnown(t *testing.T, pod string) {
	t.Helper()
	killedMaker(t, pod)
	netns.Run(t, "ip link set "+pairIn(pod).Interface+" up")
}

// wantInterfaces compares the host's interfaces, besides the loopback.
func wantInterfaces(t *testing.T, want string) {
	t.Helper()
	var have []string
	for line := range strings.Lines(netns.Run(t, "ip -o link")) {
		name, _, _ := strings.Cut(strings.TrimSuffix(strings.Fields(line)[1], ":"), "@")
		if name != "lo" {
			have = append(have, name)
		}
	}
	wantText(t, strings.Join(have, " "), want)
}

func TestDeleteLeavesOthers(t *testing.T) {
	netns.Enter(t)
	pod := netns.NewPod(t)
	netns.Run(t, "ip link add cali0123456789a address ee:ee:ee:ee:ee:ee up type veth peer name foreign")
	netns.InPod(t, pod, "ip link add eth0 up type bridge")
	before := netns.Listing(t, pod)
	if err := Delete(pairIn(pod).ID, pod, "cali0123456789a"); err != nil {
		t.Fatal(err)
	}
	wantText(t, netns.Listing(t, pod), before)
}

func TestNamesTaken(t *testing.T) {
	const hostIf = "cali0123456789a"
	tests := []struct {
		name    string
		prepare func(t *testing.T, pod string)
		want    string // part of the error; empty: replaced
	}{
		{"earlier container of the pod", func(t *testing.T, _ string) {
			earlier := pairIn(netns.NewPod(t))
			earlier.ContainerID = "c0"
			create(t, earlier)
		}, ""},
		{"killed maker's", func(t *testing.T, pod string) {
			create(t, pairIn(pod))
			killedMaker(t, pod)
		}, ""},
		{"killed maker's, and the agent set up the host's side", func(t *testing.T, pod string) {
			create(t, pairIn(pod))
			killedMakerOfKnown(t, pod)
		}, ""},
		{"other addresses before", func(t *testing.T, pod string) {
			earlier := pairIn(pod)
			earlier.Addresses = addresses("10.65.0.9")
			create(t, earlier)
		}, ""},
		{"host's side renamed", func(t *testing.T, pod string) {
			create(t, pairIn(pod))
			netns.Run(t, "ip link set "+hostIf+" down")
			netns.Run(t, "ip link set "+hostIf+" name strange")
		}, ""},
		{"another pod's", func(t *testing.T, _ string) {
			other := pairIn(netns.NewPod(t))
			other.Pod = "db"
			create(t, other)
		}, `interface is not korat's: cali0123456789a (veth, alias "korat default/db c1/eth0 10.65.0.2"): remove it: ip link delete cali0123456789a`},
		{"a bridge", func(t *testing.T, _ string) { netns.Run(t, "ip link add "+hostIf+" type bridge") }, `interface is not korat's: cali0123456789a (bridge, alias "")`},
		{"a veth in use", func(t *testing.T, _ string) {
			netns.Run(t, "ip link add "+hostIf+" address ee:ee:ee:ee:ee:ee up type veth peer name other")
		}, `interface is not korat's: cali0123456789a (veth, alias "")`},
		{"another plugin's pair", func(t *testing.T, pod string) {
			create(t, pairIn(pod))
			killedMakerOfKnown(t, pod)
			netns.InPod(t, pod, "ip link set eth0 up")
		}, `interface is not korat's: cali0123456789a (veth, alias "")`},
		{"the pod's side", func(t *testing.T, pod string) { netns.InPod(t, pod, "ip link add eth0 type bridge") }, "is korat the first plugin of the network's list?"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			netns.Enter(t)
			pod := netns.NewPod(t)
			tt.prepare(t, pod)
			before := netns.Listing(t, pod)
			made, err := Create(pairIn(pod))
			if tt.want == "" {
				if err != nil || !made.New {
					t.Fatalf("have %+v, %v, want a new pair", made, err)
				}
				if err := Check(pairIn(pod), Later{}); err != nil {
					t.Error(err)
				}
				wantInterfaces(t, hostIf)
				return
			}
			if !errors.Is(err, ErrTaken) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("have %v, want %q", err, tt.want)
			}
			wantText(t, netns.Listing(t, pod), before)
		})
	}
}

func TestCheck(t *testing.T) {
	const hostIf = "cali0123456789a"
	tests := []struct {
		name   string
		damage func(t *testing.T, pod string)
		want   string
	}{
		{"host's side moved away", func(t *testing.T, _ string) {
			other := netns.NewPod(t)
			netns.Run(t, "ip link set "+hostIf+" netns "+other)
		}, "host interface cali0123456789a is gone"},
		{"pair gone", func(t *testing.T, _ string) { netns.Run(t, "ip link del "+hostIf) }, "host interface cali0123456789a is gone\ninterface eth0 is gone from POD"},
		{"host's side down", func(t *testing.T, _ string) { netns.Run(t, "ip link set "+hostIf+" down") }, "host interface cali0123456789a is down"},
		{"host's MAC", func(t *testing.T, _ string) { netns.Run(t, "ip link set "+hostIf+" address 02:00:00:00:00:01") }, "host interface cali0123456789a has MAC 02:00:00:00:00:01, want ee:ee:ee:ee:ee:ee"},
		{"host's MTU", func(t *testing.T, _ string) { netns.Run(t, "ip link set "+hostIf+" mtu 1300") }, "host interface cali0123456789a has MTU 1300, want 1400"},
		{"alias", func(t *testing.T, _ string) { netns.Run(t, "ip link set "+hostIf+" alias mine") }, `host interface cali0123456789a has alias "mine", want "korat default/web c1/eth0 10.65.0.2"`},
		{"pod's MAC", func(t *testing.T, pod string) { netns.InPod(t, pod, "ip link set eth0 address 02:00:00:00:00:01") }, "interface eth0 has MAC 02:00:00:00:00:01, want 02:00:00:00:00:aa\n" +
			"permanent neighbour 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0 is missing"}, // the kernel flushes it
		{"pod's MTU", func(t *testing.T, pod string) { netns.InPod(t, pod, "ip link set eth0 mtu 1300") }, "interface eth0 has MTU 1300, want 1400"},
		{"address", func(t *testing.T, pod string) {
			netns.InPod(t, pod, "ip addr add 10.65.0.7/32 dev eth0")
			netns.InPod(t, pod, "ip addr del 10.65.0.2/32 dev eth0")
		}, "interface eth0 lacks address 10.65.0.2/32"},
		{"gateway route", func(t *testing.T, pod string) { netns.InPod(t, pod, "ip route del 169.254.1.1") }, "route 169.254.1.1 dev eth0 scope link is missing"},
		{"default route", func(t *testing.T, pod string) { netns.InPod(t, pod, "ip route del default") }, "route default via 169.254.1.1 dev eth0 is missing"},
		{"neighbour", func(t *testing.T, pod string) { netns.InPod(t, pod, "ip neigh del 169.254.1.1 dev eth0") }, "permanent neighbour 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0 is missing"},
		{"down", func(t *testing.T, pod string) { netns.InPod(t, pod, "ip link set eth0 down") }, "interface eth0 is down\n" +
			"route 169.254.1.1 dev eth0 scope link is missing\nroute default via 169.254.1.1 dev eth0 is missing\n" +
			"permanent neighbour 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0 is missing"},
		{"another interface in its place", func(t *testing.T, pod string) {
			netns.InPod(t, pod, "ip link set eth0 down")
			netns.InPod(t, pod, "ip link set eth0 name other")
			netns.InPod(t, pod, "ip link add eth0 mtu 1400 address 02:00:00:00:00:aa type bridge")
		}, "interface eth0 is a bridge, not a veth\ninterface eth0 is down\ninterface eth0 is not the other side of cali0123456789a\n" +
			"interface eth0 lacks address 10.65.0.2/32\nroute 169.254.1.1 dev eth0 scope link is missing\n" +
			"route default via 169.254.1.1 dev eth0 is missing\npermanent neighbour 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0 is missing"},
		{"what others added", func(t *testing.T, pod string) {
			netns.InPod(t, pod, "ip addr add 10.99.0.1/24 dev eth0")
			netns.InPod(t, pod, "ip route add 192.0.2.0/24 via 169.254.1.1")
			netns.InPod(t, pod, "sysctl -qw net.ipv4.ip_forward=1")
		}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			netns.Enter(t)
			pod := netns.NewPod(t)
			want := pairIn(pod)
			want.MAC = "02:00:00:00:00:aa"
			create(t, want)
			tt.damage(t, pod)
			have := ""
			if err := Check(want, Later{}); err != nil {
				have = strings.ReplaceAll(err.Error(), pod, "POD")
			}
			wantText(t, have, tt.want)
		})
	}
}

func TestCheckAfterLaterPlugins(t *testing.T) {
	netns.Enter(t)
	pod := netns.NewPod(t)
	want := pairIn(pod)
	want.MAC = "02:00:00:00:00:aa"
	create(t, want)
	netns.InPod(t, pod, "ip link set eth0 address 02:00:00:00:00:bb mtu 1300")
	if err := Check(want, Later{MAC: "02:00:00:00:00:bb", MTU: 1300}); err != nil {
		t.Error(err)
	}
	if err := Check(want, Later{MAC: "02:00:00:00:00:bb", AnyMTU: true}); err != nil {
		t.Error(err)
	}
	err := Check(want, Later{MAC: "02:00:00:00:00:cc"})
	wantText(t, fmt.Sprint(err), "interface eth0 has MAC 02:00:00:00:00:bb, want 02:00:00:00:00:cc\ninterface eth0 has MTU 1300, want 1400")
}
