// SPDX-License-Identifier: Apache-2.0

package settings

import (
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// FuzzParse reads arbitrary files: every value that is taken belongs to a flag other than those that
// a file must not set.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"node-name: a\ntimeout: 3s\nendpoints: [a, b]\nyes: true\n", "node-name:\n", "node-name: {a: b}\n", "- a\n", "config: x\n",
		"timeout: 1s\ntimeout: 2s\n", "endpoints: &a [*a]\n", "endpoints: [[a], [[b]]]\n", "a: &a\n  <<: *a\n", "\x00", "node-name: 0x10\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		flags.String("node-name", "host", "")
		flags.Duration("timeout", 10*time.Second, "")
		flags.StringSlice("endpoints", nil, "")
		flags.Bool("yes", false, "")
		flags.String(Config, "", "")
		values, err := parse(data, flags)
		if err != nil {
			return
		}
		for name, text := range values {
			if flags.Lookup(name) == nil || special(name) {
				t.Errorf("key %q was taken", name)
			}
			_ = flags.Set(name, text)
		}
	})
}
