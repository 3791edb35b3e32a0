// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"korat/test/lab"
)

// settled is a host with one pod of which the datastore knows everything, so that every further
// change is a trace of something else.
func settled(t *testing.T) (*world, *lab.Host, *lab.Pod) {
	t.Helper()
	w := cluster(t, 1)
	h := w.host("a")
	p := w.pod(h, "here")
	w.stored(h, "here")
	w.hasAddress(h, "192.168.100.100/24")
	w.until("the agent has created what a new cluster needs", func(ctx context.Context) error {
		_, err := h.Exec(ctx, "koratctl", "get", "clusterinformation", "default")
		return err
	})
	return w, h, p
}

// traces gives all that bad input could change: kernel, datastore and journal.
func (w *world) traces(h *lab.Host) string {
	w.Helper()
	return w.kernel(h) + w.store(h) + w.recorded(h)
}

// kinds are those that an error names.
const kinds = "BGPConfiguration, BGPPeer, BlockAffinity, ClusterInformation, ClusterNetworkPolicy, " +
	"EndpointSlice, FelixConfiguration, GlobalNetworkPolicy, GlobalNetworkSet, HostEndpoint, IPAMBlock, IPAMConfiguration, IPPool, IPReservation, " +
	"NetworkPolicy, NetworkSet, Node, Profile, StagedGlobalNetworkPolicy, StagedNetworkPolicy, Tier, WorkloadEndpoint"

// TestKoratctlRefuses holds the whole error of each bad manifest.
func TestKoratctlRefuses(t *testing.T) {
	w, h, _ := settled(t)
	before := w.traces(h)
	object := func(kind, name, spec string) string {
		return fmt.Sprintf("apiVersion: projectcalico.org/v3\nkind: %s\nmetadata: {name: %s}\nspec: {%s}\n", kind, name, spec)
	}
	good := object("IPPool", "good", "cidr: 10.40.0.0/16")
	cases := []struct{ name, manifest, want string }{
		{"malformed YAML", "apiVersion: projectcalico.org/v3\nkind: [IPPool\n", "stdin: document 1: line 2: did not find expected ',' or ']'"},
		{"malformed in the second document", good + "---\n\tkind: IPPool\n", "stdin: document 2: line 6: found character that cannot start any token"},
		{"overlap with a stored pool", object("IPPool", "over", "cidr: 172.17.128.0/17"), `stdin: IPPool/over: spec.cidr: "172.17.128.0/17": overlaps IPPool/default-ipv4-ippool (172.17.0.0/16): use a range that no other pool has`},
		{"overlap within a file", good + "---\n" + object("IPPool", "over", "cidr: 10.40.7.0/24"), "stdin: IPPool/good: spec.cidr: \"10.40.0.0/16\": overlaps IPPool/over (10.40.7.0/24): use a range that no other pool has\nstdin: IPPool/over: spec.cidr: \"10.40.7.0/24\": overlaps IPPool/good (10.40.0.0/16): use a range that no other pool has"},
		{"block size below", object("IPPool", "p", "cidr: 10.0.0.0/8, blockSize: 19"), "stdin: IPPool/p: spec.blockSize: 19: must be 20..32"},
		{"block size above", object("IPPool", "p", "cidr: 10.0.0.0/8, blockSize: 33"), "stdin: IPPool/p: spec.blockSize: 33: must be 20..32"},
		{"block larger than the pool", object("IPPool", "p", "cidr: 10.0.0.0/28, blockSize: 26"), "stdin: IPPool/p: spec.blockSize: 26: blocks must fit into the pool 10.0.0.0/28: use 28..32"},
		{"block size changed", object("IPPool", "default-ipv4-ippool", "cidr: 172.17.0.0/16, blockSize: 26"), "stdin: IPPool/default-ipv4-ippool: spec.blockSize: 26: is immutable and was 24: delete the IPPool and create a new one"},
		{"host bits", object("IPPool", "p", "cidr: 10.0.0.1/16"), `stdin: IPPool/p: spec.cidr: "10.0.0.1/16": has host bits set: use "10.0.0.0/16"`},
		{"no CIDR", object("IPPool", "p", "cidr: 10.0.0.0"), `stdin: IPPool/p: spec.cidr: "10.0.0.0": must be a CIDR such as "172.17.0.0/16" or "fd00:10:244::/48"`},
		{"unknown field", object("IPPool", "p", "cidr: 10.0.0.0/16, blocksize: 26"), "stdin: document 1: IPPool/p: spec.blocksize: unknown or not supported by korat: is blockSize meant?"},
		{"unsupported value", object("IPPool", "p", "cidr: 10.0.0.0/16, ipipMode: Always"), `stdin: IPPool/p: spec.ipipMode: "Always": must be Never: korat supports nothing else yet`},
		{"unknown kind", object("IPPools", "p", "cidr: 10.0.0.0/16"), `stdin: document 1: IPPools/p: kind "IPPools" is not supported by korat: use one of ` + kinds},
		{"unsupported kind", object("KubeControllersConfiguration", "p", ""), `stdin: document 1: KubeControllersConfiguration/p: kind "KubeControllersConfiguration" is not supported by korat: use one of ` + kinds},
		{"wrong API version", strings.Replace(good, "/v3", "/v1", 1), `stdin: document 1: IPPool/good: apiVersion: "projectcalico.org/v1": must be "projectcalico.org/v3"`},
		{"wrong type", object("IPPool", "p", "cidr: 10.0.0.0/16, disabled: perhaps"), "stdin: document 1: IPPool/p: spec.disabled: must be true or false, not string"},
		{"no name", "apiVersion: projectcalico.org/v3\nkind: IPPool\nspec: {cidr: 10.0.0.0/16}\n", `stdin: IPPool/: metadata.name: must be a DNS-1123 subdomain: lower-case letters, digits, dashes and dots, beginning and ending with a letter or digit, at most 253 bytes`},
		{"bad name", object("IPPool", "Pool_1", "cidr: 10.0.0.0/16"), `stdin: IPPool/Pool_1: metadata.name: "Pool_1": must be a DNS-1123 subdomain: lower-case letters, digits, dashes and dots, beginning and ending with a letter or digit, at most 253 bytes`},
		{"a field twice", object("IPPool", "p", "cidr: 10.0.0.0/16, cidr: 10.1.0.0/16"), `stdin: document 1: IPPool/p: line 4: key "cidr" is given twice: remove one`},
		{"an object twice", good + "---\n" + good, "stdin: IPPool/good is given twice, first in stdin: remove one"},
		{"address of another node", object("Node", "thief", "bgp: {ipv4Address: 192.168.100.100/24}"), `stdin: Node/thief: spec.bgp.ipv4Address: "192.168.100.100/24": is held by Node/a: give each node its own address, or delete that Node if it is gone`},
		{"subnet's own address", object("Node", "net", "bgp: {ipv4Address: 192.168.100.0/24}"), `stdin: Node/net: spec.bgp.ipv4Address: "192.168.100.0/24": is the network address of its subnet: use the host's own address`},
		{"bad peer", object("BGPPeer", "p", "peerIP: 10.0.0.300, asNumber: 0"), "stdin: BGPPeer/p: spec.peerIP: \"10.0.0.300\": must be an address with an optional port 1..65535, such as \"192.0.2.1\", \"192.0.2.1:1179\", \"fd00::1\" or \"[fd00::1]:1179\"\nstdin: BGPPeer/p: spec.asNumber: 0: must be 1..4294967295 and not 23456, which is reserved: use e.g. 64512"},
		{"the agents' kind", object("BlockAffinity", "p", "cidr: 10.0.0.0/24, node: a, state: confirmed"), "stdin: BlockAffinity/p: the agents keep this kind; it can be read but not changed by hand"},
		{"several faults, one file", good + "---\n" + object("IPPool", "p", "cidr: 10.0.0.1/16, blockSize: 33") + "---\n" + object("BGPConfiguration", "other", ""), "stdin: BGPConfiguration/other: metadata.name: \"other\": must be \"default\": korat supports no other BGPConfiguration\nstdin: IPPool/p: spec.cidr: \"10.0.0.1/16\": has host bits set: use \"10.0.0.0/16\"\nstdin: IPPool/p: spec.blockSize: 33: must be 20..32"},
		{"nothing", "", "stdin: holds no object"},
	}
	for _, tc := range cases {
		r := w.try(h, tc.manifest, "koratctl", "apply", "-f", "-")
		if want := "koratctl: " + tc.want + "\n"; r.status != 1 || r.stdout != "" || r.stderr != want {
			t.Errorf("%s: status %d, output %q, error\n%s\nwant status 1 and\n%s", tc.name, r.status, r.stdout, r.stderr, want)
		}
	}
	if after := w.traces(h); after != before {
		t.Errorf("traces are left: before\n%s\nafter\n%s", before, after)
	}
}

// TestPluginRefuses holds code and text of each refused call of the plugin.
func TestPluginRefuses(t *testing.T) {
	w, h, here := settled(t)
	w.run(h, "ip netns add other")
	before := w.traces(h)
	good := lab.CNI{
		Command: "ADD", ContainerID: strings.Repeat("ab", 32), NetNS: "/run/netns/other", IfName: "eth0",
		Args: "K8S_POD_NAMESPACE=default;K8S_POD_NAME=other", Config: lab.NetworkConfig,
	}
	config := func(more string) func(*lab.CNI) {
		return func(c *lab.CNI) { c.Config = `{"cniVersion":"1.0.0","name":"korat","type":"korat",` + more + `}` }
	}
	names := strings.NewReplacer("THIS", good.ContainerID, "OTHER", here.ContainerID, "HERE", here.Address().String())
	cases := []struct {
		name   string
		change func(*lab.CNI)
		code   uint
		want   string
	}{
		{"old version", func(c *lab.CNI) { c.Config = `{"cniVersion":"0.2.0","name":"korat","type":"korat"}` }, 1, `incompatible CNI versions; config is "0.2.0", plugin supports ["0.3.1" "0.4.0" "1.0.0" "1.1.0"]`},
		{"version to come", func(c *lab.CNI) { c.Config = `{"cniVersion":"9.0.0","name":"korat","type":"korat"}` }, 1, `incompatible CNI versions; config is "9.0.0", plugin supports ["0.3.1" "0.4.0" "1.0.0" "1.1.0"]`},
		{"no JSON", func(c *lab.CNI) { c.Config = `{"cniVersion":` }, 6, "error unmarshall network config: unexpected end of JSON input"},
		{"no network name", func(c *lab.CNI) { c.Config = `{"cniVersion":"1.0.0","type":"korat"}` }, 7, "missing network name"},
		{"no network namespace given", func(c *lab.CNI) { c.NetNS = "" }, 4, "required env variables [CNI_NETNS] missing"},
		{"absent network namespace", func(c *lab.CNI) { c.NetNS = "/run/netns/absent" }, 4, "CNI_NETNS: /run/netns/absent: no such network namespace; it must be the path of the container's network namespace, such as /run/netns/NAME or /proc/PID/ns/net"},
		{"a file for a network namespace", func(c *lab.CNI) { c.NetNS = "/etc/hostname" }, 4, "CNI_NETNS: /etc/hostname: not a network namespace; it must be the path of the container's network namespace, such as /run/netns/NAME or /proc/PID/ns/net"},
		{"the host's own network namespace", func(c *lab.CNI) { c.NetNS = "/proc/self/ns/net" }, 4, "CNI_NETNS: /proc/self/ns/net: the host's own network namespace; it must be the path of the container's network namespace, such as /run/netns/NAME or /proc/PID/ns/net"},
		{"no container ID", func(c *lab.CNI) { c.ContainerID = "" }, 4, "required env variables [CNI_CONTAINERID] missing"},
		{"bad container ID", func(c *lab.CNI) { c.ContainerID = "../../etc" }, 4, `CNI_CONTAINERID "../../etc": a container ID begins with a letter or digit, and letters, digits, '_', '.' and '-' follow`},
		{"long container ID", func(c *lab.CNI) { c.ContainerID = strings.Repeat("a", 254) }, 4, `CNI_CONTAINERID "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"…: it has 254 characters: at most 253 are allowed`},
		{"long interface name", func(c *lab.CNI) { c.IfName = "ethernet-number-0" }, 4, `CNI_IFNAME "ethernet-number-0": it has 17 bytes: an interface's name has at most 15`},
		{"bad interface name", func(c *lab.CNI) { c.IfName = "eth/0" }, 4, `CNI_IFNAME "eth/0": an interface's name may not hold '/', ':', '%', blanks or anything but printable ASCII`},
		{"unknown command", func(c *lab.CNI) { c.Command = "MODIFY" }, 4, "unknown CNI_COMMAND: MODIFY"},
		{"unknown key", config(`"ipMasquerade":true`), 2, `network configuration "korat": ipMasquerade: true is not supported: remove it`},
		{"unknown key of ipam", config(`"ipam":{"type":"korat-ipam","subnet":"10.0.0.0/8"}`), 2, `network configuration "korat": ipam.subnet: "10.0.0.0/8" is not supported: remove it`},
		{"another IPAM plugin", config(`"ipam":{"type":"host-local"}`), 2, `network configuration "korat": ipam.type: "host-local" is not supported: addresses come from korat's IP pools: want calico-ipam or korat-ipam`},
		{"IPv6 on a node without", config(`"ipam":{"type":"korat-ipam","assign_ipv6":"true"}`), 7, `ipam.assign_ipv6; the network configuration asks for an IPv6 address, but this node has none itself: start korat-node with --ip6, or set ipam.assign_ipv6 to "false"`},
		{"neither family", config(`"ipam":{"type":"korat-ipam","assign_ipv4":"false"}`), 7, `network configuration "korat": ipam.assign_ipv4: it is false, as is ipam.assign_ipv6: a pod needs an address: set one of them to "true"`},
		{"bad MTU", config(`"mtu":20`), 7, `network configuration "korat": mtu: 20 is out of range: want 68 to 65535, or 0 for the agent's choice`},
		{"another node's name", config(`"nodename":"b"`), 7, `nodename; the network configuration says "b", but this node is "a": remove nodename or make them equal`},
		{"absent pool", config(`"ipam":{"type":"korat-ipam","ipv4_pools":["absent"]}`), 101, `no address; assign to "korat.THIS.eth0": pool "absent": there is none of that name or CIDR: want one of default-ipv4-ippool (172.17.0.0/16)`},
		{"address outside of every pool", func(c *lab.CNI) { c.Args += ";IP=10.99.0.1" }, 101, `no address; assign to "korat.THIS.eth0": address 10.99.0.1: it is in none of the usable pools: want one of default-ipv4-ippool (172.17.0.0/16)`},
		{"address in use", func(c *lab.CNI) { c.Args += ";IP=" + here.Address().String() }, 101, `no address; assign to "korat.THIS.eth0": address HERE is in use by pod default/here (handle "korat.OTHER.eth0")`},
		{"no address", func(c *lab.CNI) { c.Args += ";IP=10.99.0" }, 4, `CNI_ARGS: IP="10.99.0": want an address such as 172.17.0.5 or fd00:172:17::5, without prefix length`},
		{"unknown argument", func(c *lab.CNI) { c.Args += ";MAC=02:00:00:00:00:01" }, 4, `CNI_ARGS: "MAC" is not known: leave it out, or add IgnoreUnknown=1`},
		{"bad pod name", func(c *lab.CNI) { c.Args = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=../x" }, 4, `CNI_ARGS: K8S_POD_NAME="../x": want lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit`},
		{"CHECK of an unknown container", func(c *lab.CNI) {
			c.Command = "CHECK"
			c.Config = `{"cniVersion":"1.0.0","name":"korat","type":"korat","prevResult":{"cniVersion":"1.0.0","ips":[{"address":"172.17.0.9/32"}]}}`
		}, 3, "attachment unknown; THIS/eth0"},
	}
	for _, tc := range cases {
		call := good
		tc.change(&call)
		out, err := h.CNI(w.limit(), call)
		var reported *types.Error
		if !errors.As(err, &reported) {
			t.Errorf("%s: have %v, %s; want a CNI error", tc.name, err, out)
			continue
		}
		if have := strings.TrimSuffix(reported.Msg+"; "+reported.Details, "; "); reported.Code != tc.code || have != names.Replace(tc.want) {
			t.Errorf("%s: have %d, %s\nwant %d, %s", tc.name, reported.Code, have, tc.code, names.Replace(tc.want))
		}
	}
	if after := w.traces(h); after != before {
		t.Errorf("traces are left: before\n%s\nafter\n%s", before, after)
	}

	// What is refused after the address was given is undone.
	before = w.kernel(h) + w.recorded(h)
	good.NetNS = here.NetNS()
	_, err := h.CNI(w.limit(), good)
	w.isCNIError(err, 100, "interface is not korat's: eth0 in /run/netns/here (veth)")
	if after := w.kernel(h) + w.recorded(h); after != before {
		t.Errorf("traces are left: before\n%s\nafter\n%s", before, after)
	}
	if have := w.run(h, "ip -n other -br link"); strings.Count(have, "\n") != 1 {
		t.Errorf("links in the network namespace:\n%s", have)
	}
}

// TestNodeRefuses holds the whole error of an agent that is told something wrong, and that it is told
// by the flag before the environment before the file.
func TestNodeRefuses(t *testing.T) {
	w := hosts(t, 1, "")
	h := w.host("a")
	before := w.kernel(h)
	cases := []struct{ name, file, env, flags, want string }{
		{"unknown flag", "", "", "--bridge=br0", "unknown flag: --bridge"},
		{"argument", "", "", "now", `unknown command "now" for "korat-node run"`},
		{"bad value", "", "", "--resync-interval=soon", `invalid argument "soon" for "--resync-interval" flag: time: invalid duration "soon"`},
		{"out of range", "", "", "--resync-interval=1h", "--resync-interval: 1h0m0s: want 1s to 2m30s"},
		{"bad node name", "", "", "--node-name=Host_A", `--node-name: Node/Host_A: metadata.name: "Host_A": must be a DNS-1123 subdomain: lower-case letters, digits, dashes and dots, beginning and ending with a letter or digit, at most 253 bytes`},
		{"bad address", "", "", "--ip=10.0.0", `--ip: "10.0.0": want an IPv4 address of this host, such as 192.0.2.1, or autodetect or none`},
		{"bad method", "", "", "--ip-autodetection-method=fastest", `--ip-autodetection-method: address autodetection method "fastest": want first-found, can-reach=ADDRESS, interface=REGEX, skip-interface=REGEX or cidr=CIDR`},
		{"bad expression", "", "", "--ip-autodetection-method=interface=eth(", "--ip-autodetection-method: address autodetection method \"interface=eth(\": error parsing regexp: missing closing ): `^(eth()$`"},
		{"bad pool", "", "", "--default-pool-cidr=172.17.0.1/16", `--default-pool-cidr, --default-pool-block-size: IPPool/default-ipv4-ippool: spec.cidr: "172.17.0.1/16": has host bits set: use "172.17.0.0/16"`},
		{"bad block size", "", "", "--default-pool-block-size=8", "--default-pool-cidr, --default-pool-block-size: IPPool/default-ipv4-ippool: spec.blockSize: 8: must be 20..32"},
		{"bad datastore", "", "", "--datastore=consul", `--datastore: "consul": want embedded or etcd`},
		{"no endpoints", "", "", "--datastore=etcd", "--etcd-endpoints: needed with --datastore=etcd"},
		{"endpoints of the embedded server", "", "", "--etcd-endpoints=http://127.0.0.1:2379", "--etcd-endpoints: not with --datastore=embedded; say --datastore=etcd to use servers elsewhere"},
		{"certificate without key", "", "", "--etcd-cert=/etc/korat/tls/node.pem", "--etcd-cert, --etcd-key: both or neither"},
		{"absent certificate", "", "", "--etcd-ca=/absent --etcd-cert=/absent --etcd-key=/absent", "--etcd-cert, --etcd-key: open /absent: no such file or directory"},
		{"open to everybody", "", "", "--embedded-listen=0.0.0.0:2379", `--embedded-listen, --embedded-dir, --etcd-ca, --etcd-cert, --etcd-key: start embedded etcd in /var/lib/korat/etcd on 0.0.0.0:2379: listen address "0.0.0.0:2379": whoever can reach it could change the cluster: give an authority, a certificate and a key, or listen on 127.0.0.1:2379`},
		{"open to the network", "", "", "--embedded-listen=192.168.100.100:2379", `--embedded-listen, --embedded-dir, --etcd-ca, --etcd-cert, --etcd-key: start embedded etcd in /var/lib/korat/etcd on 192.168.100.100:2379: listen address "192.168.100.100:2379": whoever can reach it could change the cluster: give an authority, a certificate and a key, or listen on 127.0.0.1:2379`},
		{"bad endpoint", "", "", "--datastore=etcd --etcd-endpoints=192.0.2.1", `--etcd-endpoints, --etcd-ca, --etcd-cert, --etcd-key, --etcd-username, --etcd-password-file: configure etcd client: endpoint "192.0.2.1": must begin with http:// or https://`},
		{"bad listen address", "", "", "--embedded-listen=localhost", `--embedded-listen, --embedded-dir, --etcd-ca, --etcd-cert, --etcd-key: start embedded etcd in /var/lib/korat/etcd on localhost: listen address "localhost": must be address:port, such as "127.0.0.1:2379"`},
		{"bad log format", "", "", "--log-format=xml", `--log-format: "xml": want text or json`},
		{"bad health address", "", "", "--http-address=192.0.2.1:9099", "--http-address: listen tcp 192.0.2.1:9099: bind: cannot assign requested address"},
		{"bad environment", "", "KORAT_RESYNC_INTERVAL=soon", "", `environment variable KORAT_RESYNC_INTERVAL: "soon": invalid argument "soon" for "--resync-interval" flag: time: invalid duration "soon"`},
		{"unknown key", "bridge: br0\n", "", "", `configuration file /etc/korat/korat-node.yaml: unknown key "bridge": the keys are the names of flags, which --help lists`},
		{"bad value in the file", "resync-interval: soon\n", "", "", `file /etc/korat/korat-node.yaml, key resync-interval: "soon": invalid argument "soon" for "--resync-interval" flag: time: invalid duration "soon"`},
		{"a key twice", "ip: 10.0.0.1\nip: 10.0.0.2\n", "", "", "configuration file /etc/korat/korat-node.yaml: error converting YAML to JSON: yaml: unmarshal errors:\n  line 2: key \"ip\" already set in map"},
		{"no YAML", "ip: [\n", "", "", "configuration file /etc/korat/korat-node.yaml: error converting YAML to JSON: yaml: line 1: did not find expected node content"},
		{"absent file", "", "", "--config=/absent.yaml", "configuration file: open /absent.yaml: no such file or directory"},
		{"file alone", "log-level: file\n", "", "", `--log-level: "file": want debug, info, warn or error`},
		{"environment over file", "log-level: file\n", "KORAT_LOG_LEVEL=environment", "", `--log-level: "environment": want debug, info, warn or error`},
		{"flag over both", "log-level: file\n", "KORAT_LOG_LEVEL=environment", "--log-level=flag", `--log-level: "flag": want debug, info, warn or error`},
	}
	for _, tc := range cases {
		if err := h.WriteFile("/etc/korat/korat-node.yaml", []byte(tc.file), 0o600); err != nil {
			t.Fatal(err)
		}
		argv := append(append([]string{"env"}, strings.Fields(tc.env)...), "korat-node", "run")
		r := w.try(h, "", append(argv, strings.Fields(tc.flags)...)...)
		if want := "korat-node: " + tc.want + "\n"; r.status != 1 || r.stdout != "" || r.stderr != want {
			t.Errorf("%s: status %d, output %q, error\n%s\nwant status 1 and\n%s", tc.name, r.status, r.stdout, r.stderr, want)
		}
	}
	if after := w.kernel(h); after != before {
		t.Errorf("traces are left: before\n%s\nafter\n%s", before, after)
	}
	if have := w.run(h, "find /var/lib/korat -mindepth 1"); have != "" {
		t.Errorf("files are left: %s", have)
	}
	if pids := h.Pids("korat-node"); len(pids) > 0 {
		t.Errorf("processes are left: %v", pids)
	}
}
