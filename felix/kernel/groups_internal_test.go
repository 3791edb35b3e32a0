// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"korat/api"
	"korat/test/netns"
)

func TestMatchesGroups(t *testing.T) {
	ns := netns.New(t)
	h := openIn(t, ns)
	for _, b := range []Backend{NFT, Legacy} {
		for _, f := range api.Families() {
			c := ChainsConfig{Backend: b, LockFile: t.TempDir() + "/lock"}
			if err := h.MatchesGroups(t.Context(), c, f); err != nil {
				t.Errorf("%s, %s: %v", b, f, err)
			}
			ask := h.nftMatch
			if b == Legacy {
				ask = h.legacyMatch
			}
			if err := ask(f, "no_such_match"); !errors.Is(err, unix.ENOENT) {
				t.Errorf("%s, %s: a match that there isn't: %v", b, f, err)
			}
			unknown := strings.Replace(groupTest, groupMatch, "no_such_match", 1)
			if err := h.testRule(t.Context(), c.filled(), f, unknown); err == nil || !strings.Contains(err.Error(), "no_such_match") {
				t.Errorf("%s, %s: a match that the program doesn't know: %v", b, f, err)
			}
			if saved := ns.Run(b.program(f, "-save")); strings.Contains(saved, "cali") {
				t.Errorf("%s, %s: it has written:\n%s", b, f, saved)
			}
		}
	}
}
