// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// TestSettingsAreChecked holds that every error names the flag and says what is wanted.
func TestSettingsAreChecked(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ args, want string }{
		{"", ""},
		{"--ip=192.0.2.1", ""},
		{"--ip=192.0.2.1/24", ""},
		{"--ip=autodetect", ""},
		{"--ip=192.0.2", `--ip: "192.0.2": want an IPv4 address of this host, such as 192.0.2.1, or autodetect or none`},
		{"--ip=192.0.2.1/33", `--ip: "192.0.2.1/33": want an IPv4 address of this host, such as 192.0.2.1, or autodetect or none`},
		{"--ip=2001:db8::1", `--ip: "2001:db8::1": is an IPv6 address: give it as --ip6`},
		{"--ip=2001:db8::1/64", `--ip: "2001:db8::1/64": is an IPv6 address: give it as --ip6`},
		{"--ip=none", "--ip, --ip6: both are none: a node needs an address"},
		{"--ip=none --ip6=", "--ip, --ip6: both are none: a node needs an address"},
		{"--ip6=2001:db8::1", ""},
		{"--ip6=2001:db8::1/64 --ip=none", ""},
		{"--ip6=autodetect", ""},
		{"--ip6=192.0.2.1", `--ip6: "192.0.2.1": is an IPv4 address: give it as --ip`},
		{"--ip6=::ffff:192.0.2.1", `--ip6: "::ffff:192.0.2.1": want an IPv6 address of this host, such as 2001:db8::1, or autodetect or none`},
		{"--ip6=2001:db8::1/129", `--ip6: "2001:db8::1/129": want an IPv6 address of this host, such as 2001:db8::1, or autodetect or none`},
		{"--ip6=fe80::1", `--ip6: "fe80::1": is link-local, which means nothing to other nodes: want an address such as 2001:db8::1`},
		{"--ip6=fd00::1%eth0", `--ip6: "fd00::1%eth0": is link-local`},
		{"--ip6-autodetection-method=can-reach=192.0.2.1", `--ip6-autodetection-method: address autodetection method "can-reach=192.0.2.1": "192.0.2.1" is no IPv6 address`},
		{"--ip6=autodetect --default-pool6-cidr=fd00:10:244::/48", ""},
		{"--default-pool6-cidr=fd00:10:244::/48", "--default-pool6-cidr: not with --ip6=none"},
		{"--default-pool6-cidr=none", ""},
		{"--ip6=autodetect --default-pool6-cidr=10.0.0.0/16", `--default-pool6-cidr, --default-pool6-block-size: IPPool/default-ipv6-ippool: spec.blockSize: 122: must be 20..32`},
		{"--ip6=autodetect --default-pool6-cidr=10.0.0.0/16 --default-pool6-block-size=26", `--default-pool6-cidr, --default-pool6-block-size: IPPool/default-ipv6-ippool: spec.cidr: "10.0.0.0/16": want an IPv6 range`},
		{"--ip6=autodetect --default-pool6-block-size=64", `--default-pool6-cidr, --default-pool6-block-size: IPPool/default-ipv6-ippool: spec.blockSize: 64: must be 116..128`},
		{"--default-pool-cidr=fd00::/48", `--default-pool-cidr, --default-pool-block-size: IPPool/default-ipv4-ippool: spec.blockSize: 24: must be 116..128`},
		{"--default-pool-cidr=none", ""},
		{"--default-pool-cidr=172.17.0.1/16 --ip=none --ip6=autodetect", ""},
		{"--node-name=A", "--node-name: Node/A: metadata.name: "},
		{"--resync-interval=1ms", "--resync-interval: 1ms: want 1s to 2m30s"},
		{"--ip-autodetection-method=fastest", `--ip-autodetection-method: address autodetection method "fastest": want `},
		{"--default-pool-cidr=172.17.0.1/16", `--default-pool-cidr, --default-pool-block-size: IPPool/default-ipv4-ippool: spec.cidr: "172.17.0.1/16": has host bits set`},
		{"--default-pool-cidr=172.17.0.1/16 --no-default-pool", ""},
		{"--datastore=consul", `--datastore: "consul": want embedded or etcd`},
		{"--datastore=etcd", "--etcd-endpoints: needed with --datastore=etcd"},
		{"--etcd-endpoints=http://192.0.2.1:2379", "--etcd-endpoints: not with --datastore=embedded"},
		{"--etcd-cert=x", "--etcd-cert, --etcd-key: both or neither"},
		{"--etcd-cert=/absent --etcd-key=/absent", "--etcd-cert, --etcd-key: open /absent: no such file or directory"},
		{"--etcd-username=x", "--etcd-username, --etcd-password-file: both or neither"},
		{"--etcd-username=x --etcd-password-file=/absent", "--etcd-password-file: open /absent: no such file or directory"},
		{"--etcd-ca=/absent", "--etcd-ca: open /absent: no such file or directory"},
		{"--etcd-ca=" + empty, "--etcd-ca: " + empty + " holds no certificate in PEM"},
	} {
		var s settings
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		s.register(flags)
		if err := flags.Parse(append([]string{"--node-name=a"}, strings.Fields(tc.args)...)); err != nil {
			t.Fatal(err)
		}
		have := ""
		if _, err := s.agentConfig(); err != nil {
			have = err.Error()
		}
		if !strings.HasPrefix(have, tc.want) || tc.want == "" && have != "" {
			t.Errorf("%s: have %s, want %s", tc.args, have, tc.want)
		}
	}
}
