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
		{"--ip=192.0.2", `--ip: "192.0.2": want an address of this host, such as 192.0.2.1, or autodetect`},
		{"--ip=192.0.2.1/33", `--ip: "192.0.2.1/33": want an address of this host, such as 192.0.2.1, or autodetect`},
		{"--ip=2001:db8::1", `--ip: "2001:db8::1": only IPv4 is supported`},
		{"--ip=2001:db8::1/64", `--ip: "2001:db8::1/64": only IPv4 is supported`},
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
