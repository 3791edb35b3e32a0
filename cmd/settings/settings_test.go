// SPDX-License-Identifier: Apache-2.0

package settings

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// TestFill holds the precedence of command line, environment and file, and the words of each error.
func TestFill(t *testing.T) {
	for _, tc := range []struct {
		name, file, args string
		env              map[string]string
		want             string // of name, timeout and list; or the error's text
	}{
		{name: "default", want: "host 10s []"},
		{name: "file", file: "node-name: f\ntimeout: 3s\nendpoints: [a, b]\n", want: "f 3s [a b]"},
		{name: "environment over file", file: "node-name: f\n", env: map[string]string{"KORAT_NODE_NAME": "e"}, want: "e 10s []"},
		{
			name: "command line over all", file: "node-name: f\n", env: map[string]string{"KORAT_NODE_NAME": "e"},
			args: "--node-name=c", want: "c 10s []",
		},
		{name: "unknown key", file: "nodename: f\n", want: `unknown key "nodename"`},
		{name: "key given twice", file: "timeout: 1s\ntimeout: 2s\n", want: `"timeout" already set`},
		{name: "no value", file: "timeout:\n", want: `key "timeout": has no value`},
		{name: "a mapping", file: "timeout: {a: b}\n", want: `key "timeout": want one value or a list`},
		{name: "the file names no other file", file: "config: x\n", want: `unknown key "config"`},
		{name: "bad value in the file", file: "timeout: soon\n", want: `key timeout: "soon"`},
		{name: "bad value in the environment", env: map[string]string{"KORAT_TIMEOUT": "soon"}, want: `environment variable KORAT_TIMEOUT: "soon"`},
		{name: "absent file that was asked for", args: "--config=/nonexistent", want: "configuration file: open /nonexistent"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "absent")
			if tc.file != "" {
				if err := os.WriteFile(file, []byte(tc.file), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			flags := pflag.NewFlagSet("", pflag.ContinueOnError)
			name := flags.String("node-name", "host", "")
			timeout := flags.Duration("timeout", 10*time.Second, "")
			list := flags.StringSlice("endpoints", nil, "")
			config := flags.String(Config, file, "")
			if err := flags.Parse(strings.Fields(tc.args)); err != nil {
				t.Fatal(err)
			}
			have := ""
			err := Fill(flags, *config, func(name string) (string, bool) { v, ok := tc.env[name]; return v, ok })
			if err != nil {
				have = err.Error()
			} else {
				have = *name + " " + timeout.String() + " [" + strings.Join(*list, " ") + "]"
			}
			if !strings.Contains(have, tc.want) {
				t.Errorf("have %q, want %q", have, tc.want)
			}
		})
	}
}
