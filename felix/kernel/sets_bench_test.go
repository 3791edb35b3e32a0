// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"korat/felix/kernel"
)

// The members of a selector that all pods of a large cluster match.
const benchMembers = 10_000

func BenchmarkReplaceSet(b *testing.B) {
	all := manyMembers(benchMembers)
	b.Run("sets", func(b *testing.B) {
		h := newSetHost(b)
		change := kernel.SetChange{Key: set4("cali40s:big"), Replace: true, Add: all}
		for b.Loop() {
			h.write(change)
		}
	})
	b.Run("ipset-restore", func(b *testing.B) {
		h := newSetHost(b)
		var text strings.Builder
		text.WriteString("create cali40s:big hash:net maxelem 1048576 -exist\ncreate cali4t0 hash:net maxelem 1048576\n")
		for _, m := range all {
			fmt.Fprintf(&text, "add cali4t0 %v\n", m.Prefix.Addr())
		}
		text.WriteString("swap cali4t0 cali40s:big\ndestroy cali4t0\n")
		for b.Loop() {
			err := h.Do(func() error {
				cmd := exec.CommandContext(b.Context(), "ipset", "restore")
				cmd.Stdin = strings.NewReader(text.String())
				return cmd.Run()
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkAlterSet(b *testing.B) {
	all := manyMembers(benchMembers + 1)
	h := newSetHost(b)
	key := set4("cali40s:big")
	h.write(kernel.SetChange{Key: key, Replace: true, Add: all[:benchMembers]})
	for b.Loop() {
		h.write(kernel.SetChange{Key: key, Add: all[benchMembers:]}, kernel.SetChange{Key: key, Remove: all[benchMembers:]})
	}
}

func BenchmarkReadSets(b *testing.B) {
	all := manyMembers(benchMembers)
	h := newSetHost(b)
	var changes []kernel.SetChange
	for i := range 500 {
		changes = append(changes, kernel.SetChange{Key: set4(fmt.Sprintf("cali40s:%d", i)), Replace: true, Add: all[i*20 : i*20+20]})
	}
	h.write(changes...)
	b.Run("members", func(b *testing.B) {
		for b.Loop() {
			if have, err := h.sets.Read(b.Context()); err != nil || len(have) != len(changes) {
				b.Fatal(len(have), err)
			}
		}
	})
	b.Run("sizes", func(b *testing.B) {
		for b.Loop() {
			if have, err := h.sets.ReadSizes(b.Context()); err != nil || len(have) != len(changes) {
				b.Fatal(len(have), err)
			}
		}
	})
	b.Run("replace-all", func(b *testing.B) {
		for b.Loop() {
			h.write(changes...)
		}
	})
}
