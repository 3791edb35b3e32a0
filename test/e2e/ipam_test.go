// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"korat/test/lab"
)

// TestReleaseOfLivePod: what an operator takes from a pod by force, its agent takes back.
func TestReleaseOfLivePod(t *testing.T) {
	w := cluster(t, 2)
	a := w.host("a")
	p, q := w.pod(a, "p"), w.pod(w.host("b"), "q")
	w.sound(a)
	own := p.Addresses()[0].String()
	if r := w.try(a, "", "koratctl", "ipam", "release", "--ip="+own); r.status != 1 || !strings.Contains(r.stderr, own+" is in use by WorkloadEndpoint/default/") {
		t.Errorf("without force: %+v", r)
	}
	r := w.try(a, "", "koratctl", "ipam", "release", "--ip="+own, "--force")
	for _, addr := range p.Addresses() {
		for text, want := range map[string]string{r.stdout: fmt.Sprintf("%s released", addr), r.stderr: fmt.Sprintf("%s: the agent of node a has put it back", addr)} {
			if r.status != 1 || !strings.Contains(text, want) {
				t.Errorf("with force: %+v\nwant %s", r, want)
			}
		}
	}
	w.sound(a)
	w.matrix([]place{{"p", p.Addresses()[0], p}, {"q", q.Addresses()[0], q}})
}

// TestLostHost: a host is gone for good, and its Node is deleted. What it has left behind is found by two checks and
// released.
func TestLostHost(t *testing.T) {
	w := cluster(t, 2)
	a, b := w.host("a"), w.host("b")
	w.pod(a, "p")
	q := w.pod(b, "q")
	w.sound(a)
	if err := w.Agents[1].Kill(); err != nil {
		t.Fatal(err)
	}
	w.run(a, "koratctl delete node b")
	for _, report := range []string{"/tmp/1.json", "/tmp/2.json"} {
		r := w.try(a, "", "koratctl", "ipam", "check", "-o", report)
		if r.status != 1 || !strings.Contains(r.stdout, "endpoint of a node that does not exist: 1\n") ||
			!strings.Contains(r.stdout, "affinity of a node that does not exist: 1\n") || !strings.Contains(r.stderr, "problems found: 2") {
			t.Fatalf("check: %+v", r)
		}
	}
	const release = "koratctl ipam release --from-report=/tmp/1.json --from-report=/tmp/2.json"
	if out := w.run(a, release); !strings.Contains(out, "--force releases it if the host is gone for good") || !strings.Contains(out, "nothing was released") {
		t.Errorf("without force:\n%s", out)
	}
	out := w.run(a, release+" --force")
	for _, addr := range q.Addresses() {
		if want := addr.String() + " released"; !strings.Contains(out, want) {
			t.Errorf("want %s in\n%s", want, out)
		}
	}
	w.sound(a)
	if left := w.run(a, "koratctl get blocks"); strings.Contains(left, " b ") {
		t.Errorf("blocks of b are left:\n%s", left)
	}
}

// sound waits until a check finds nothing.
func (w *world) sound(h *lab.Host) {
	w.Helper()
	w.until("a check finds nothing", func(ctx context.Context) error {
		out, err := h.Exec(ctx, "koratctl", "ipam", "check")
		if err != nil {
			err = errors.Join(err, errors.New(out))
		}
		return err
	})
}
