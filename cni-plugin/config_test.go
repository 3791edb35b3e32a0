// SPDX-License-Identifier: Apache-2.0

package cniplugin

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// withKeys gives a configuration with the keys added to a minimal one.
func withKeys(keys string) string {
	if keys != "" {
		keys = ", " + keys
	}
	return `{"cniVersion": "1.0.0", "name": "net", "type": "korat"` + keys + `}`
}

func TestParseConfig(t *testing.T) {
	tests := []struct{ keys, want string }{
		{``, "{1.0.0 net {[]  [] []} <nil> 0  /run/korat/agent.sock 10s WARN {{true []} {false []}} false {[]  {map[] [] false}}}"},
		{
			`"mtu": 1400, "nodename": "node-1", "socket": "/run/k.sock", "timeout": 3, "log_level": "Debug",
			 "ipam": {"type": "calico-ipam", "ipv4_pools": ["172.17.0.0/16", "second"], "assign_ipv4": "true", "assign_ipv6": "false", "ipv6_pools": []},
			 "container_settings": {"allow_ip_forwarding": true}, "dns": {"nameservers": ["10.0.0.10"], "domain": "d"}`,
			"{1.0.0 net {[10.0.0.10] d [] []} <nil> 1400 node-1 /run/k.sock 3s DEBUG {{true [172.17.0.0/16 second]} {false []}} true {[]  {map[] [] false}}}",
		},
		{
			`"cniVersions": ["1.0.0"], "args": {"cni": {}}, "ipMasq": false, "runtimeConfig": {"x": 1}, "capabilities": {"ips": true},
			 "cni.dev/valid-attachments": [], "disableCheck": true, "disableGC": true, "loadOnlyInlinedPlugins": true,
			 "ipam": {"type": "korat-ipam", "assign_ipv4": true}`,
			"{1.0.0 net {[]  [] []} <nil> 0  /run/korat/agent.sock 10s WARN {{true []} {false []}} false {[]  {map[] [] false}}}",
		},
		{
			`"args": {"cni": {"ips": ["10.0.0.7/24"], "labels": [{"key": "a", "value": "b"}], "ports": [{"name": "http", "port": 80}, {"name": "dns", "protocol": "udp", "port": 53}]}, "org.example": 7},
			 "runtimeConfig": {"ips": ["10.0.0.7"], "mac": "02:AA:00:00:00:01", "portMappings": [{"hostPort": 80}], "bandwidth": {}, "ipRanges": null}`,
			"{1.0.0 net {[]  [] []} <nil> 0  /run/korat/agent.sock 10s WARN {{true []} {false []}} false {[10.0.0.7] 02:aa:00:00:00:01 {map[a:b] [{http TCP 80} {dns UDP 53}] false}}}",
		},
		{
			`"args": {"cni": {"ips": []}}, "runtimeConfig": {"ips": null, "mac": ""}`,
			"{1.0.0 net {[]  [] []} <nil> 0  /run/korat/agent.sock 10s WARN {{true []} {false []}} false {[]  {map[] [] false}}}",
		},
		{
			`"mtu": null, "ipam": {}, "container_settings": {}, "prevResult": null, "nodename": "", "log_level": ""`,
			"{1.0.0 net {[]  [] []} <nil> 0  /run/korat/agent.sock 10s WARN {{true []} {false []}} false {[]  {map[] [] false}}}",
		},
		{
			`"mtu": 1280, "ipam": {"assign_ipv6": "true", "ipv6_pools": ["fd00:172:17::/48", "six"], "ipv4_pools": ["four"]},
			 "args": {"cni": {"ips": ["fd00::7"]}}, "runtimeConfig": {"ips": ["fd00::7/64", "10.0.0.7"]}`,
			"{1.0.0 net {[]  [] []} <nil> 1280  /run/korat/agent.sock 10s WARN {{true [four]} {true [fd00:172:17::/48 six]}} false {[fd00::7 10.0.0.7]  {map[] [] false}}}",
		},
		{
			`"ipam": {"assign_ipv4": "False", "assign_ipv6": true}`,
			"{1.0.0 net {[]  [] []} <nil> 0  /run/korat/agent.sock 10s WARN {{false []} {true []}} false {[]  {map[] [] false}}}",
		},
	}
	for _, tt := range tests {
		c, err := ParseConfig([]byte(withKeys(tt.keys)))
		if err != nil {
			t.Errorf("%s: %v", tt.keys, err)
		}
		if have := fmt.Sprint(c); have != tt.want {
			t.Errorf("%s:\nhave %s\nwant %s", tt.keys, have, tt.want)
		}
	}
}

func TestParseConfigRefuses(t *testing.T) {
	tests := []struct {
		keys string
		code uint
		want string
	}{
		{`"kubernetes": {"kubeconfig": "/k"}`, 2, `network configuration "net": kubernetes: {"kubeconfig":"/k"} is not supported: remove it`},
		{`"MTU": 1400`, 2, `MTU: 1400 is not supported`},
		{`"policy": null`, 2, `policy: null is not supported`},
		{`"ipMasq": true`, 2, `ipMasq: true is not supported`},
		{`"ipam": {"type": "host-local"}`, 2, `ipam.type: "host-local" is not supported: addresses come from korat's IP pools`},
		{`"ipam": {"subnet": "usePodCidr"}`, 2, `ipam.subnet: "usePodCidr" is not supported: remove it`},
		{`"container_settings": {"x": 1}`, 2, `container_settings.x: 1 is not supported`},
		{`"x": "` + strings.Repeat("y", 1000) + `"`, 2, `yyy… is not supported`},
		{`"mtu": "1400"`, 7, `mtu: "1400": json: cannot unmarshal string`},
		{`"mtu": 67`, 7, `mtu: 67 is out of range: want 68 to 65535, or 0 for the agent's choice`},
		{`"mtu": 65536`, 7, `mtu: 65536 is out of range`},
		{`"mtu": -1`, 7, `mtu: -1 is out of range`},
		{`"timeout": 0`, 7, `timeout: 0 is out of range: want 1 to 600 seconds`},
		{`"timeout": 601`, 7, `timeout: 601 is out of range`},
		{`"socket": "agent.sock"`, 7, `socket: "agent.sock": must be an absolute path`},
		{`"socket": ""`, 7, `socket: "": must be an absolute path`},
		{`"socket": "/` + strings.Repeat("s", 110) + `"`, 7, `a Unix socket's path has at most 107`},
		{`"nodename": "Node_1"`, 7, `nodename: "Node_1": want lower-case letters`},
		{`"log_level": "loud"`, 7, `log_level: "loud": want debug, info, warning or error`},
		{`"ipam": []`, 7, `ipam: []: want an object`},
		{`"ipam": {"assign_ipv4": "yes"}`, 7, `ipam.assign_ipv4: "yes": want true or false`},
		{`"ipam": {"ipv4_pools": "172.17.0.0/16"}`, 7, `ipam.ipv4_pools: "172.17.0.0/16": json: cannot unmarshal`},
		{`"ipam": {"ipv4_pools": ["172.17.0.1/16"]}`, 7, `ipam.ipv4_pools: entry 0, "172.17.0.1/16": it has host bits: write 172.17.0.0/16`},
		{`"ipam": {"ipv4_pools": ["a", "172.17.0.0/33"]}`, 7, `entry 1, "172.17.0.0/33": want an IPv4 CIDR`},
		{`"ipam": {"assign_ipv6": 1}`, 7, `ipam.assign_ipv6: 1: want true or false`},
		{`"ipam": {"assign_ipv4": "false"}`, 7, `ipam.assign_ipv4: it is false, as is ipam.assign_ipv6: a pod needs an address: set one of them to "true"`},
		{`"ipam": {"assign_ipv4": false, "assign_ipv6": "true", "ipv4_pools": ["p"]}`, 7, `ipam.ipv4_pools: ipam.assign_ipv4 is false: set it to "true", or remove the pools`},
		{`"ipam": {"ipv6_pools": ["p"]}`, 7, `ipam.ipv6_pools: ipam.assign_ipv6 is false: set it to "true", or remove the pools`},
		{`"ipam": {"ipv4_pools": ["fd00::/64"]}`, 7, `ipam.ipv4_pools: entry 0, "fd00::/64": want an IPv4 CIDR such as 172.17.0.0/16`},
		{`"ipam": {"ipv6_pools": ["six", "10.0.0.0/8"]}`, 7, `ipam.ipv6_pools: entry 1, "10.0.0.0/8": want an IPv6 CIDR such as fd00:172:17::/48`},
		{`"ipam": {"ipv6_pools": ["::ffff:10.0.0.0/104"]}`, 7, `want an IPv6 CIDR`},
		{`"ipam": {"ipv6_pools": ["fd00::1/64"]}`, 7, `it has host bits: write fd00::/64`},
		{`"mtu": 1279, "ipam": {"assign_ipv6": "true"}`, 7, `mtu: 1279 is too small for IPv6, which ipam.assign_ipv6 asks for: want at least 1280`},
		{`"runtimeConfig": {"ips": ["fd00::1/64"]}`, 7, `runtimeConfig.ips: ipam.assign_ipv6 is false: set it to "true" for a pod to have fd00::1`},
		{`"ipam": {"assign_ipv4": "false", "assign_ipv6": "true"}, "args": {"cni": {"ips": ["10.0.0.1"]}}`, 7, `ipam.assign_ipv4 is false: set it to "true" for a pod to have 10.0.0.1`},
		{`"runtimeConfig": {"ips": ["fd00::1", "10.0.0.1", "fd00::2"]}`, 2, `is not supported: a pod has one IPv6 address`},
		{`"ipam": {"ipv4_pools": [""]}`, 7, `entry 0, "": neither a CIDR nor an IP pool's name`},
		{`"container_settings": {"allow_ip_forwarding": "yes"}`, 7, `container_settings.allow_ip_forwarding: "yes": json`},
		{`"runtimeConfig": []`, 7, `runtimeConfig: []: want an object`},
		{`"runtimeConfig": {"ips": ["10.0.0.1", "10.0.0.2"]}`, 2, `runtimeConfig.ips: ["10.0.0.1","10.0.0.2"] is not supported: a pod has one IPv4 address`},
		{`"runtimeConfig": {"ips": "10.0.0.1"}`, 7, `runtimeConfig.ips: "10.0.0.1": json`},
		{`"runtimeConfig": {"ips": ["10.0.0.1/33"]}`, 7, `runtimeConfig.ips: "10.0.0.1/33": want an address such as`},
		{`"runtimeConfig": {"ips": ["127.0.0.1"]}`, 7, `runtimeConfig.ips: "127.0.0.1": a pod cannot have this address`},
		{`"runtimeConfig": {"ips": ["10.0.0.1"]}, "args": {"cni": {"ips": ["10.0.0.2"]}}`, 7, `runtimeConfig.ips: "10.0.0.1": args.cni.ips asks for 10.0.0.2`},
		{`"runtimeConfig": {"ipRanges": [[{"subnet": "10.0.0.0/8"}]]}`, 2, `runtimeConfig.ipRanges: [[{"subnet":"10.0.0.0/8"}]] is not supported`},
		{`"runtimeConfig": {"mac": 7}`, 7, `runtimeConfig.mac: 7: json`},
		{`"runtimeConfig": {"mac": "02:00:00:00:00"}`, 7, `runtimeConfig.mac: "02:00:00:00:00": want six octets`},
		{`"runtimeConfig": {"mac": "02:00:00:00:00:00:00:01"}`, 7, `want six octets`},
		{`"runtimeConfig": {"mac": "01:00:5e:00:00:01"}`, 7, `want a unicast one`},
		{`"runtimeConfig": {"mac": "00:00:00:00:00:00"}`, 7, `want a unicast one`},
		{`"runtimeConfig": {"mac": "EE:EE:EE:EE:EE:EE"}`, 7, `the host's side of every pod has this address`},
		{`"args": {"cni": 7}`, 7, `args.cni: 7: want an object`},
		{`"args": {"cni": {"labels": {"a": "b"}}}`, 7, `args.cni.labels: {"a":"b"}: json`},
		{`"args": {"cni": {"labels": [{"key": "", "value": "b"}]}}`, 7, `args.cni.labels.[0]: key "": want letters`},
		{`"args": {"cni": {"labels": [{"key": "a..b/c", "value": "b"}]}}`, 7, `key "a..b/c": want letters`},
		{`"args": {"cni": {"labels": [{"key": "a.b/", "value": "b"}]}}`, 7, `key "a.b/": want letters`},
		{`"args": {"cni": {"labels": [{"key": "/c", "value": "b"}]}}`, 7, `key "/c": want letters`},
		{`"args": {"cni": {"labels": [{"key": "projectcalico.org/namespace", "value": "b"}]}}`, 7, `korat sets it itself: remove it`},
		{`"args": {"cni": {"labels": [{"key": "pcns.team", "value": "b"}]}}`, 7, `korat sets it itself: remove it`},
		{`"args": {"cni": {"labels": [{"key": "a", "value": "b"}, {"key": "a", "value": "c"}]}}`, 7, `args.cni.labels.[1]: key "a" is given twice`},
		{`"args": {"cni": {"labels": [{"key": "a", "value": "b c"}]}}`, 7, `value "b c": want at most 63`},
		{`"args": {"cni": {"ports": [{"name": "HTTP", "port": 80}]}}`, 7, `args.cni.ports.[0]: name "HTTP": want at most 15`},
		{`"args": {"cni": {"ports": [{"name": "80-1", "port": 80}]}}`, 7, `name "80-1": want at most 15`},
		{`"args": {"cni": {"ports": [{"name": "a", "port": 80}, {"name": "a", "port": 81}, {"name": "a", "protocol": "tcp", "port": 80}]}}`, 7, `args.cni.ports.[2]: TCP port 80 has the name "a" twice`},
		{`"args": {"cni": {"ports": [{"name": "http", "protocol": "icmp", "port": 80}]}}`, 7, `protocol "ICMP": want TCP, UDP or SCTP`},
		{`"args": {"cni": {"ports": [{"name": "http"}]}}`, 7, `port 0: want 1 to 65535`},
		{`"args": {"cni": {"ips": ["x"]}}`, 7, `args.cni.ips: "x": want an address such as`},
		{`"dns": {"nameservers": 1}`, 7, `dns: {"nameservers":1}: json`},
		{`"prevResult": 7`, 6, `prevResult: json`},
		{`"prevResult": {"cniVersion": "9.9.9"}`, 6, `prevResult: `},
	}
	for _, tt := range tests {
		_, err := ParseConfig([]byte(withKeys(tt.keys)))
		if err == nil || err.Code != tt.code || !strings.Contains(err.Msg, tt.want) || !strings.Contains(err.Msg, `network configuration "net": `) {
			t.Errorf("%s:\nhave %+v\nwant code %d, %s", tt.keys, err, tt.code, tt.want)
		}
	}
	for text, want := range map[string]string{
		`{`: "unexpected end of JSON input", `null`: "want an object", `[]`: "cannot unmarshal array", ``: "unexpected end",
	} {
		if _, err := ParseConfig([]byte(text)); err == nil || err.Code != 6 || !strings.Contains(err.Msg, want) {
			t.Errorf("%s: have %+v, want code 6, %s", text, err, want)
		}
	}
	for text, want := range map[string]string{
		`{}`:               `name: it is missing`,
		`{"name": "a b"}`:  `name: "a b": want letters, digits`,
		`{"name": "../x"}`: `name: "../x": want letters, digits`,
		`{"name": 1}`:      `name: 1: json`,
		`{"name": "` + strings.Repeat("n", 254) + `"}`: `has 254 characters: at most 253 are allowed`,
	} {
		if _, err := ParseConfig([]byte(text)); err == nil || err.Code != 7 || !strings.Contains(err.Msg, want) {
			t.Errorf("%s: have %+v, want code 7, %s", text, err, want)
		}
	}
}

// What DEL needs survives faults elsewhere.
func TestParseConfigIsUsableWithFaults(t *testing.T) {
	c, err := ParseConfig([]byte(withKeys(`"a": 1, "mtu": -1, "socket": "/run/k.sock", "timeout": 3, "prevResult": 7`)))
	if err == nil || c.Socket != "/run/k.sock" || c.Timeout.Seconds() != 3 || c.Network != "net" {
		t.Errorf("have %+v, %v", c, err)
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(withKeys(`"mtu": 1400, "ipam": {"type": "calico-ipam", "ipv4_pools": ["10.0.0.0/8"], "assign_ipv4": "true"}`)))
	f.Add([]byte(withKeys(`"prevResult": {"cniVersion": "1.0.0", "interfaces": [{"name": "eth0"}], "ips": [{"address": "10.0.0.1/32"}]}`)))
	f.Add([]byte(withKeys(`"runtimeConfig": {"ips": ["10.0.0.7/24"], "mac": "02:aa:00:00:00:01"}, "args": {"cni": {"ips": ["10.0.0.7"]}}`)))
	f.Add([]byte(withKeys(`"ipam": {"assign_ipv4": false, "assign_ipv6": "true", "ipv6_pools": ["fd00::/64"]}, "runtimeConfig": {"ips": ["fd00::7"]}`)))
	f.Add([]byte(`{"name": "n", "ipam": null, "container_settings": {"allow_ip_forwarding": true}, "x": "` + "\xff" + `"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseConfig(data)
		if err != nil {
			if err.Code != 2 && err.Code != 6 && err.Code != 7 || err.Msg == "" {
				t.Errorf("error %+v is none of the specification's", err)
			}
			return
		}
		if c.Network == "" || c.Socket == "" || c.Timeout <= 0 || c.MTU < 0 || len(c.IPAM.asked()) == 0 || len(c.Asked.Addresses) > 2 {
			t.Errorf("accepted %q as %+v", data, c)
		}
		var object map[string]any
		if json.Unmarshal(data, &object) != nil {
			t.Errorf("accepted %q", data)
		}
	})
}

func TestParseArgs(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", "{default c1 []}"},
		{"IP=10.0.0.7", "{default c1 [10.0.0.7]}"},
		{"IP=fd00::7", "{default c1 [fd00::7]}"},
		{"IP=fd00::7,10.0.0.7", "{default c1 [fd00::7 10.0.0.7]}"},
		{"IgnoreUnknown=1;K8S_POD_NAMESPACE=kube-system;K8S_POD_NAME=dns-0.a;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u;X=y=z", "{kube-system dns-0.a []}"},
		{"IgnoreUnknown=true;OTHER=", "{default c1 []}"},
		{"K8S_POD_NAMESPACE=;K8S_POD_NAME=", "{default c1 []}"},
	}
	for _, tt := range tests {
		args, err := ParseArgs(tt.text, "c1")
		if err != nil || fmt.Sprint(args) != tt.want {
			t.Errorf("%s: have %v, %v, want %s", tt.text, args, err, tt.want)
		}
	}
}

func TestParseArgsRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"IP":                                      `CNI_ARGS: "IP": want KEY=VALUE`,
		"=x":                                      `CNI_ARGS: "=x": want KEY=VALUE`,
		"IgnoreUnknown=1;":                        `CNI_ARGS: "": want KEY=VALUE`,
		"IP=10.0.0.1;IP=10.0.0.2":                 `CNI_ARGS: "IP" is given twice`,
		"MAC=02:00:00:00:00:01":                   `CNI_ARGS: "MAC" is not known: leave it out, or add IgnoreUnknown=1`,
		"IgnoreUnknown=0;X=1":                     `"X" is not known`,
		"IgnoreUnknown=maybe":                     `IgnoreUnknown="maybe": want 1 or 0`,
		"IP=10.0.0.1/24":                          `IP="10.0.0.1/24": want an address such as 172.17.0.5 or fd00:172:17::5, without prefix length`,
		"IP=10.0.0.1,10.0.0.2":                    `IP="10.0.0.1,10.0.0.2": a pod has one IPv4 address`,
		"IP=fd00::1,10.0.0.1,fd00::2":             `a pod has one IPv6 address`,
		"IP=fd00::1,":                             `want an address such as`,
		"IP=":                                     `want an address such as`,
		"IP=fe80::1":                              `a pod cannot have this address`,
		"IP=fd00::1%eth0":                         `a pod cannot have this address`,
		"IP=::ffff:10.0.0.1":                      `a pod cannot have this address`,
		"IP=ff02::1":                              `a pod cannot have this address`,
		"IP=127.0.0.1":                            `a pod cannot have this address`,
		"IP=169.254.1.1":                          `a pod cannot have this address`,
		"K8S_POD_NAME=a":                          `come together: one is missing`,
		"K8S_POD_NAMESPACE=a":                     `come together: one is missing`,
		"K8S_POD_NAMESPACE=A;K8S_POD_NAME=b":      `K8S_POD_NAMESPACE="A": want lower-case letters`,
		"K8S_POD_NAMESPACE=a;K8S_POD_NAME=../b":   `K8S_POD_NAME="../b": want lower-case letters`,
		"K8S_POD_NAMESPACE=a;K8S_POD_NAME=-b":     `K8S_POD_NAME="-b": want lower-case letters`,
		"K8S_POD_NAMESPACE=a;K8S_POD_NAME=b\nc":   `K8S_POD_NAME="b\nc": want lower-case letters`,
		"K8S_POD_NAMESPACE=..;K8S_POD_NAME=b":     `K8S_POD_NAMESPACE="..": want lower-case letters`,
		"K8S_POD_NAMESPACE=a.b;K8S_POD_NAME=b":    `K8S_POD_NAMESPACE="a.b": a namespace has no dots in its name`,
		"K8S_POD_NAMESPACE=a/b;K8S_POD_NAME=b":    `K8S_POD_NAMESPACE="a/b": want lower-case letters`,
		"K8S_POD_NAMESPACE=-a;K8S_POD_NAME=b":     `K8S_POD_NAMESPACE="-a": want lower-case letters`,
		"K8S_POD_NAMESPACE=a b;K8S_POD_NAME=b":    `K8S_POD_NAMESPACE="a b": want lower-case letters`,
		"K8S_POD_NAMESPACE=a\x00;K8S_POD_NAME=b":  `K8S_POD_NAMESPACE="a\x00": want lower-case letters`,
		"K8S_POD_NAMESPACE=a;K8S_POD_NAME=b\x00":  `K8S_POD_NAME="b\x00": want lower-case letters`,
		"K8S_POD_NAMESPACE=a;K8S_POD_NAME=b/../c": `K8S_POD_NAME="b/../c": want lower-case letters`,
		"K8S_POD_NAMESPACE=a;K8S_POD_NAME=b..c":   `K8S_POD_NAME="b..c": want lower-case letters`,
		"K8S_POD_NAMESPACE=a;K8S_POD_NAME=bä":     `K8S_POD_NAME="bä": want lower-case letters`,
		"K8S_POD_NAMESPACE=a;K8S_POD_NAME=b~0123": `K8S_POD_NAME="b~0123": want lower-case letters`,
		"K8S_POD_NAMESPACE=a;K8S_POD_NAME=" + strings.Repeat("b", 300): `it has 300 characters: at most 253`,
		"K8S_POD_NAMESPACE=a;K8S_POD_NAME=" + strings.Repeat("b", 254): `it has 254 characters: at most 253`,
		"K8S_POD_NAME=b;K8S_POD_NAMESPACE=" + strings.Repeat("a", 64):  `it has 64 characters: at most 63`,
	} {
		if _, err := ParseArgs(text, "c1"); err == nil || err.Code != 4 || !strings.Contains(err.Msg, want) {
			t.Errorf("%s: have %+v, want code 4, %s", text, err, want)
		}
	}
}

func FuzzParseArgs(f *testing.F) {
	f.Add("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;IP=10.0.0.1;X=y")
	f.Add("IP=10.0.0.1,fd00::1")
	f.Fuzz(func(t *testing.T, text string) {
		args, err := ParseArgs(text, "c1")
		if err != nil {
			if err.Code != 4 {
				t.Errorf("%q: have %+v, want code 4", text, err)
			}
			return
		}
		if strings.ContainsAny(args.Namespace+args.Pod, "/ \n,~") || len(args.Namespace) > 63 || len(args.Pod) > 253 {
			t.Errorf("%q: accepted %+v", text, args)
		}
	})
}

func TestCheckEnvironment(t *testing.T) {
	tests := []struct{ name, value, want string }{
		{"CNI_CONTAINERID", "c1_.-X", ""},
		{"CNI_CONTAINERID", "", ""}, // skel says that it is missing
		{"CNI_CONTAINERID", "../etc", `CNI_CONTAINERID "../etc": a container ID begins with a letter or digit`},
		{"CNI_CONTAINERID", "-c1", `CNI_CONTAINERID "-c1": a container ID begins`},
		{"CNI_CONTAINERID", "c 1", `a container ID begins`},
		{"CNI_CONTAINERID", "c1\n", `a container ID begins`},
		{"CNI_CONTAINERID", "c1\x00", `a container ID begins`},
		{"CNI_CONTAINERID", "c1/../../c2", `a container ID begins`},
		{"CNI_CONTAINERID", "..", `a container ID begins`},
		{"CNI_CONTAINERID", "cä", `a container ID begins`},
		{"CNI_CONTAINERID", strings.Repeat("c", 253), ""},
		{"CNI_CONTAINERID", strings.Repeat("c", 300), `ccc"…: it has 300 characters: at most 253 are allowed`},
		{"CNI_IFNAME", "eth0.100", ""},
		{"CNI_IFNAME", "fifteen-bytes-x", ""},
		{"CNI_IFNAME", "sixteen-bytes-xx", `CNI_IFNAME "sixteen-bytes-xx": it has 16 bytes: an interface's name has at most 15`},
		{"CNI_IFNAME", strings.Repeat("e", 300), `it has 300 bytes`},
		{"CNI_IFNAME", ".", "the name is reserved"},
		{"CNI_IFNAME", "..", "the name is reserved"},
		{"CNI_IFNAME", "all", "the name is reserved"},
		{"CNI_IFNAME", "lo", "the name is reserved"},
		{"CNI_IFNAME", "../eth0", "may not hold '/'"},
		{"CNI_IFNAME", "eth:0", "may not hold '/', ':'"},
		{"CNI_IFNAME", "eth 0", "blanks"},
		{"CNI_IFNAME", "eth%d", "'%'"},
		{"CNI_IFNAME", "eth\x01", "printable ASCII"},
		{"CNI_IFNAME", "eth\x00", "printable ASCII"},
		{"CNI_IFNAME", "eth/../all", "may not hold '/'"},
		{"CNI_IFNAME", "default", "the name is reserved"},
		{"CNI_IFNAME", "-x", "may not begin with '-'"},
		{"CNI_NETNS", "/run/netns/x", ""},
		{"CNI_NETNS", "netns/x", `CNI_NETNS "netns/x": it must be an absolute path`},
		{"CNI_NETNS", "-rf", `CNI_NETNS "-rf": it must be an absolute path`},
		{"CNI_NETNS", "../../run/netns/x", `it must be an absolute path`},
		{"CNI_NETNS", "/run/netns/x\x00/y", `CNI_NETNS "/run/netns/x\x00/y": a path may not hold a zero byte`},
		{"CNI_NETNS", "/" + strings.Repeat("n", 4095), `nnn"…: it has 4096 bytes: a path has at most 4095`},
	}
	for _, tt := range tests {
		for _, command := range []string{"ADD", "CHECK", "DEL"} {
			env := map[string]string{"CNI_COMMAND": command, tt.name: tt.value}
			err := checkEnvironment(func(name string) string { return env[name] })
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("%s %s=%q: %+v", command, tt.name, tt.value, err)
			case tt.want != "" && (err == nil || err.Code != 4 || !strings.Contains(err.Msg, tt.want) || !strings.Contains(err.Msg, tt.name)):
				t.Errorf("%s %s=%q: have %+v, want code 4, %s", command, tt.name, tt.value, err, tt.want)
			}
		}
	}
	for _, command := range []string{"VERSION", "STATUS", "GC", ""} {
		env := map[string]string{"CNI_COMMAND": command, "CNI_IFNAME": "a/b"}
		if err := checkEnvironment(func(name string) string { return env[name] }); err != nil {
			t.Errorf("%s: %+v, though it has no interface", command, err)
		}
	}
}
