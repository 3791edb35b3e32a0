// SPDX-License-Identifier: Apache-2.0

package cniplugin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"korat/cni-plugin/socket"
	"korat/felix/endpoint"
	"korat/test/netns"
)

// readable gives JSON with the pod's own MAC and path blanked, sorted and indented.
func readable(t *testing.T, h *host, text string) string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", " ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	out := strings.ReplaceAll(b.String(), h.pod, "POD")
	return regexp.MustCompile(`"[0-9a-f][26ae](:[0-9a-f]{2}){5}"`).ReplaceAllStringFunc(out, func(mac string) string {
		if mac == `"ee:ee:ee:ee:ee:ee"` {
			return mac
		}
		return `"MAC"`
	})
}

func wantText(t *testing.T, have, want string) {
	t.Helper()
	if strings.TrimSpace(have) != strings.TrimSpace(want) {
		t.Errorf("have\n%s\nwant\n%s", have, want)
	}
}

const result100 = `{
 "cniVersion": "1.0.0",
 "dns": {
  "nameservers": [
   "10.96.0.10"
  ]
 },
 "interfaces": [
  {
   "mac": "ee:ee:ee:ee:ee:ee",
   "name": "calib1b1351a2cd"
  },
  {
   "mac": "MAC",
   "name": "eth0",
   "sandbox": "POD"
  }
 ],
 "ips": [
  {
   "address": "172.17.8.2/32",
   "gateway": "169.254.1.1",
   "interface": 1
  }
 ],
 "routes": [
  {
   "dst": "0.0.0.0/0",
   "gw": "169.254.1.1"
  }
 ]
}`

func TestVersions(t *testing.T) {
	withMTU := strings.NewReplacer(`"1.0.0"`, `"1.1.0"`, `"mac": "ee:ee:ee:ee:ee:ee",`, `"mac": "ee:ee:ee:ee:ee:ee",
   "mtu": 1400,`, `"mac": "MAC",`, `"mac": "MAC",
   "mtu": 1400,`).Replace(result100)
	older := strings.Replace(result100, `"interface": 1`, `"interface": 1,
   "version": "4"`, 1)
	tests := []struct{ version, result string }{
		{"0.3.1", strings.Replace(older, "1.0.0", "0.3.1", 1)},
		{"0.4.0", strings.Replace(older, "1.0.0", "0.4.0", 1)},
		{"1.0.0", result100},
		{"1.1.0", withMTU},
	}
	for _, tt := range tests {
		t.Run(tt.version, func(t *testing.T) {
			h := newHost(t)
			before := netns.Run(t, "ip -o link")
			config := h.config(tt.version, `"mtu": 1400, "dns": {"nameservers": ["10.96.0.10"]}`)
			args := "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web"
			result := h.must("ADD", config, args)
			wantText(t, readable(t, h, result), strings.Replace(tt.result, "calib1b1351a2cd", endpoint.HostInterface("default", "web", "eth0"), 1))
			wantText(t, netns.InPod(t, h.pod, "ip route"), "default via 169.254.1.1 dev eth0 \n169.254.1.1 dev eth0 scope link")
			events := []string{"ADD", "READY"}
			checked := strings.Replace(config, "{", `{"prevResult": `+result+`, `, 1)
			if tt.version == "0.3.1" {
				h.refused(1, []string{"config version does not allow CHECK"}, "CHECK", checked, args)
			} else {
				wantText(t, h.must("CHECK", checked, args), "")
				events = append(events, "CHECK")
			}
			for range 2 {
				wantText(t, h.must("DEL", config, args), "")
				events = append(events, "DEL")
			}
			h.agent.wantEvents(events...)
			wantText(t, netns.Run(t, "ip -o link"), before)
		})
	}
}

func TestVersionAndAbout(t *testing.T) {
	h := newHost(t)
	wantText(t, h.must("VERSION", ""), `{"cniVersion":"1.1.0","supportedVersions":["0.3.1","0.4.0","1.0.0","1.1.0"]}`)
	about := h.plugin("", "")
	wantText(t, about.stderr, "CNI plugin korat v1.2.3\nCNI protocol versions supported: 0.3.1, 0.4.0, 1.0.0, 1.1.0")
}

func TestRequest(t *testing.T) {
	h := newHost(t)
	netns.Run(t, "sysctl -qw net.ipv4.ip_forward=0")
	h.must("ADD", h.config("1.0.0", `"mtu": 1300, "nodename": "n1", "ipam": {"ipv4_pools": ["172.17.0.0/16"]}, "container_settings": {"allow_ip_forwarding": true}`),
		"CNI_ARGS=K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web;IP=172.17.8.77", "CNI_IFNAME=net1")
	text, err := json.Marshal(h.agent.requests[0])
	if err != nil {
		t.Fatal(err)
	}
	wantText(t, strings.ReplaceAll(string(text), h.pod, "POD"), `{"verb":"ADD","containerID":"c1","ifName":"net1","network":"net","netns":"POD",`+
		`"namespace":"ns","pod":"web","nodeName":"n1","mtu":1300,"families":[{"version":4,"pools":["172.17.0.0/16"]}],"addresses":["172.17.8.77"]}`)
	wantText(t, h.agent.requests[1].MAC, podMAC(t, h, "net1"))
	wantText(t, netns.InPod(t, h.pod, "cat /proc/sys/net/ipv4/ip_forward"), "1")
	wantText(t, netns.Run(t, "cat /proc/sys/net/ipv4/ip_forward"), "0")
}

// podMAC gives an interface's MAC, as `ip link` prints it.
func podMAC(t *testing.T, h *host, ifName string) string {
	t.Helper()
	words := strings.Fields(netns.InPod(t, h.pod, "ip -o link show "+ifName))
	for i, w := range words {
		if w == "link/ether" {
			return words[i+1]
		}
	}
	t.Fatalf("%s has no MAC", ifName)
	return ""
}

func TestAddTwice(t *testing.T) {
	h := newHost(t)
	config := h.config("1.0.0", "")
	first := h.must("ADD", config)
	listing := netns.Listing(t, h.pod)
	wantText(t, h.must("ADD", config), first)
	wantText(t, netns.Listing(t, h.pod), listing)
	h.agent.wantEvents("ADD", "READY", "ADD", "READY")
}

// The second ADD of what is attached must not take it down when it fails.
func TestFailedSecondAdd(t *testing.T) {
	h := newHost(t)
	h.must("ADD", h.config("1.0.0", ""))
	listing := netns.Listing(t, h.pod)
	h.agent.answer = func(_ context.Context, req socket.Request) *socket.Reply {
		if req.Verb == socket.VerbReady {
			r := refuse(socket.CodeInternal, "no luck")
			return &r
		}
		return nil
	}
	h.refused(socket.CodeInternal, []string{"no luck"}, "ADD", h.config("1.0.0", ""))
	wantText(t, netns.Listing(t, h.pod), listing)
	h.agent.wantEvents("ADD", "READY", "ADD", "READY")
}

func TestChainedAfterAnother(t *testing.T) {
	h := newHost(t)
	result := h.must("ADD", h.config("1.0.0", `"prevResult": {"cniVersion": "1.0.0",
		"interfaces": [{"name": "eth1", "sandbox": "/x"}], "ips": [{"address": "10.1.1.1/24", "interface": 0}],
		"routes": [{"dst": "10.0.0.0/8"}], "dns": {"domain": "first"}}`))
	var have struct {
		Interfaces []struct{ Name string }
		IPs        []struct {
			Address   string
			Interface int
		}
		Routes []struct{ Dst string }
		DNS    struct{ Domain string }
	}
	if err := json.Unmarshal([]byte(result), &have); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(have)
	if err != nil {
		t.Fatal(err)
	}
	wantText(t, string(text), `{"Interfaces":[{"Name":"eth1"},{"Name":"`+endpoint.HostInterface("default", "c1", "eth0")+`"},{"Name":"eth0"}],`+
		`"IPs":[{"Address":"10.1.1.1/24","Interface":0},{"Address":"172.17.8.2/32","Interface":2}],`+
		`"Routes":[{"Dst":"10.0.0.0/8"},{"Dst":"0.0.0.0/0"}],"DNS":{"Domain":"first"}}`)
}

func TestCheckNamesDeviations(t *testing.T) {
	tests := []struct {
		name   string
		change func(h *host, result string) string // gives prevResult
		code   uint
		want   string
	}{
		{"route gone", func(h *host, r string) string {
			netns.InPod(h.t, h.pod, "ip route del default")
			return r
		}, 100, "attachment c1/eth0 is not as ADD left it; route default via 169.254.1.1 dev eth0 is missing"},
		{"MAC changed", func(h *host, r string) string {
			netns.InPod(h.t, h.pod, "ip link set eth0 address 02:00:00:00:00:01")
			return r
		}, 100, "interface eth0 has MAC 02:00:00:00:00:01, want "},
		{"later plugin changed MAC and MTU", func(h *host, r string) string {
			mac := podMAC(h.t, h, "eth0")
			netns.InPod(h.t, h.pod, "ip link set eth0 address 02:00:00:00:00:01 mtu 1300")
			return strings.Replace(r, `"mac": "`+mac+`"`, `"mac": "02:00:00:00:00:01", "mtu": 1300`, 1)
		}, 0, ""},
		{"later plugin changed the MTU and had no way to say so", func(h *host, r string) string {
			netns.InPod(h.t, h.pod, "ip link set eth0 mtu 1300")
			return r
		}, 0, ""},
		{"MTU changed", func(h *host, r string) string {
			netns.InPod(h.t, h.pod, "ip link set eth0 mtu 1300")
			mac := `"mac": "` + podMAC(h.t, h, "eth0") + `"`
			return strings.Replace(r, mac, mac+`, "mtu": 1450`, 1)
		}, 100, "interface eth0 has MTU 1300, want 1450"},
		{"address gone", func(h *host, r string) string {
			netns.InPod(h.t, h.pod, "ip addr add 10.9.9.9/32 dev eth0")
			netns.InPod(h.t, h.pod, "ip addr del 172.17.8.2/32 dev eth0")
			return r
		}, 100, "attachment c1/eth0 is not as ADD left it; interface eth0 lacks address 172.17.8.2/32"},
		{"neighbour gone", func(h *host, r string) string {
			netns.InPod(h.t, h.pod, "ip neigh del 169.254.1.1 dev eth0")
			return r
		}, 100, "permanent neighbour 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0 is missing"},
		{"host side gone", func(h *host, r string) string {
			netns.Run(h.t, "ip link set "+endpoint.HostInterface("default", "c1", "eth0")+" netns "+netns.NewPod(h.t))
			return r
		}, 100, "host interface " + endpoint.HostInterface("default", "c1", "eth0") + " is gone"},
		{"several at once", func(h *host, r string) string {
			netns.InPod(h.t, h.pod, "ip link set eth0 address 02:00:00:00:00:01 mtu 1300")
			netns.InPod(h.t, h.pod, "ip route del default")
			netns.Run(h.t, "ip link set "+endpoint.HostInterface("default", "c1", "eth0")+" mtu 1280")
			return strings.Replace(r, "172.17.8.2", "172.17.8.9", 1)
		}, 100, "attachment c1/eth0 is not as ADD left it; prevResult gives eth0 [172.17.8.9], the agent [172.17.8.2]; " +
			"host interface " + endpoint.HostInterface("default", "c1", "eth0") + " has MTU 1280, want 1450; " +
			"interface eth0 has MAC 02:00:00:00:00:01, want "},
		{"another namespace", func(h *host, r string) string {
			h.pod = netns.NewPod(h.t)
			return r
		}, 100, "interface eth0 is gone from /proc/"},
		{
			"other address", func(_ *host, r string) string { return strings.Replace(r, "172.17.8.2", "172.17.8.9", 1) },
			100, "prevResult gives eth0 [172.17.8.9], the agent [172.17.8.2]",
		},
		{
			"other interfaces", func(_ *host, _ string) string { return `{"cniVersion": "1.0.0"}` },
			100, "prevResult lacks host interface " + endpoint.HostInterface("default", "c1", "eth0") + "; prevResult lacks interface eth0",
		},
		{"unknown to the agent", func(h *host, r string) string {
			h.agent.Abort(h.t.Context(), endpoint.ID{ContainerID: "c1", IfName: "eth0"}, false)
			return r
		}, 3, "c1/eth0 is not attached here"},
		{"no prevResult", func(*host, string) string { return "null" }, 7, "prevResult: it is missing"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			result := h.must("ADD", h.config("1.0.0", ""))
			config := h.config("1.0.0", `"prevResult": `+tt.change(h, result))
			if tt.code == 0 {
				h.must("CHECK", config)
				return
			}
			h.refused(tt.code, []string{tt.want}, "CHECK", config)
		})
	}
}

func TestStatus(t *testing.T) {
	h := newHost(t)
	config := h.config("1.1.0", "")
	h.must("STATUS", config)
	for _, given := range []uint{11, 50, 100} {
		h.agent.answer = func(context.Context, socket.Request) *socket.Reply {
			r := refuse(given, "datastore away")
			return &r
		}
		h.refused(50, []string{"datastore away"}, "STATUS", config)
	}
	h.agent.stop()
	h.refused(50, []string{"no agent answers on " + h.agent.path}, "STATUS", config)
	h.refused(1, []string{"does not allow STATUS"}, "STATUS", h.config("1.0.0", ""))
}

func TestBadInput(t *testing.T) {
	h := newHost(t)
	good := h.config("1.0.0", "")
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	before := netns.Listing(t, h.pod)
	tests := []struct {
		name, config, variable string
		code                   uint
		texts                  []string
	}{
		{"malformed", `{"cniVersion":`, "", 6, []string{"unexpected end of JSON input"}},
		{"no configuration", ``, "", 6, []string{"unexpected end of JSON input"}},
		{"no name", `{"cniVersion": "1.0.0"}`, "", 7, []string{"missing network name"}},
		{"bad name", `{"cniVersion": "1.0.0", "name": "a/b"}`, "", 7, []string{"network name", "a/b"}},
		{"long name", `{"cniVersion": "1.0.0", "name": "` + strings.Repeat("n", 300) + `"}`, "", 7, []string{"at most 253"}},
		{"old version", h.config("0.2.0", ""), "", 1, []string{`config is "0.2.0"`, "1.1.0"}},
		{"new version", h.config("2.0.0", ""), "", 1, []string{`config is "2.0.0"`}},
		{"no version", `{"name": "net"}`, "", 1, []string{"incompatible CNI versions"}},
		{"unknown key", h.config("1.0.0", `"vxlan": true`), "", 2, []string{"vxlan: true is not supported: remove it"}},
		{"bad value", h.config("1.0.0", `"mtu": 1`), "", 7, []string{"mtu: 1 is out of range"}},
		{"bad arguments", good, "CNI_ARGS=COLOUR=red", 4, []string{"CNI_ARGS", `"COLOUR" is not known`}},
		{"no container", good, "CNI_CONTAINERID=", 4, []string{"CNI_CONTAINERID"}},
		{"bad container", good, "CNI_CONTAINERID=../c1", 4, []string{"CNI_CONTAINERID", "../c1"}},
		{"long container", good, "CNI_CONTAINERID=" + strings.Repeat("c", 300), 4, []string{"CNI_CONTAINERID", "at most 253"}},
		{"no interface", good, "CNI_IFNAME=", 4, []string{"CNI_IFNAME"}},
		{"long interface", good, "CNI_IFNAME=interface-of-16b", 4, []string{"CNI_IFNAME", "at most 15"}},
		{"long interface of 300", good, "CNI_IFNAME=" + strings.Repeat("e", 300), 4, []string{"CNI_IFNAME", "at most 15"}},
		{"interface with a dash", good, "CNI_IFNAME=-x", 4, []string{"CNI_IFNAME", "may not begin with '-'"}},
		{"interface with dots", good, "CNI_IFNAME=..", 4, []string{"CNI_IFNAME", "reserved"}},
		{"interface elsewhere", good, "CNI_IFNAME=../../eth0", 4, []string{"CNI_IFNAME", "'/'"}},
		{"no namespace", good, "CNI_NETNS=", 4, []string{"CNI_NETNS"}},
		{"relative namespace", good, "CNI_NETNS=netns/x", 4, []string{"CNI_NETNS", "absolute"}},
		{"missing namespace", good, "CNI_NETNS=/run/netns/korat-absent", 4, []string{"CNI_NETNS", "/run/netns/korat-absent: no such network namespace"}},
		{"a file for a namespace", good, "CNI_NETNS=" + empty, 4, []string{"CNI_NETNS", "not a network namespace"}},
		{"another kind of namespace", good, "CNI_NETNS=/proc/self/ns/uts", 4, []string{"CNI_NETNS", "not a network namespace"}},
		{"out of the directory to the host's namespace", good, "CNI_NETNS=/proc/self/fd/../ns/net", 4, []string{"CNI_NETNS", "the host's own network namespace"}},
		{"out of the directory to a file", good, "CNI_NETNS=/run/netns/../../etc/passwd", 4, []string{"CNI_NETNS", "not a network namespace"}},
		{"a dash for a namespace", good, "CNI_NETNS=-rf", 4, []string{"CNI_NETNS", "absolute"}},
		{"long namespace", good, "CNI_NETNS=/" + strings.Repeat("n", 300), 4, []string{"CNI_NETNS"}},
		{"overlong namespace", good, "CNI_NETNS=/" + strings.Repeat("n/", 3000), 4, []string{"CNI_NETNS", "at most 4095"}},
		{"the host's namespace", good, "CNI_NETNS=/proc/self/ns/net", 4, []string{"CNI_NETNS", "the host's own network namespace"}},
		{"no path", good, "CNI_PATH=", 4, []string{"CNI_PATH"}},
		{"unknown command", good, "CNI_COMMAND=ATTACH", 4, []string{"unknown CNI_COMMAND: ATTACH"}},
	}
	for _, tt := range tests {
		t.Log(tt.name)
		h.refused(tt.code, tt.texts, "ADD", tt.config, tt.variable)
	}
	h.agent.wantEvents()
	wantText(t, netns.Listing(t, h.pod), before)
}
