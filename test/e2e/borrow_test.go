// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"strings"
	"testing"

	"korat/test/lab"
)

// TestBorrowing has a node without a block give its pods addresses of the other's, whose pods reach them, and give them
// back.
func TestBorrowing(t *testing.T) {
	w := hosts(t, 3, "no-default-pool: true\n")
	a := w.host("a")
	if err := w.StartAgents(); err != nil {
		t.Fatal(err)
	}
	w.ready(w.Agents...)
	w.koratctl(a, "apply", "apiVersion: projectcalico.org/v3\nkind: IPAMConfiguration\nmetadata: {name: default}\nspec: {strictAffinity: false, ipCooldownSeconds: 0}\n")
	w.koratctl(a, "create", pool("one", "10.32.0.0/27", 27, false))
	w.until("the one block lends", func(ctx context.Context) error {
		out, err := a.Exec(ctx, "koratctl", "get", "ipamblocks", "-o", "yaml")
		if err == nil && !strings.Contains(out, `korat.io/lending: "true"`) {
			err = errors.New(out)
		}
		return err
	})
	var pods []*lab.Pod
	for _, h := range w.Hosts() {
		pods = append(pods, w.pod(h, h.Name+"1"), w.pod(h, h.Name+"2"))
	}
	seen := map[string]bool{}
	for _, p := range pods {
		w.inside(p, "10.32.0.0/27")
		if seen[p.Address().String()] {
			t.Errorf("%s is given twice", p.Address())
		}
		seen[p.Address().String()] = true
	}
	w.matrix(w.places())
	for _, p := range pods {
		if err := p.Delete(w.limit()); err != nil {
			t.Error(err)
		}
	}
	w.until("only the owner's leases are left", func(ctx context.Context) error {
		out, err := a.Exec(ctx, "koratctl", "get", "ipamblocks", "-o", "yaml")
		if err == nil && (strings.Contains(out, "namespace: ") || strings.Count(out, "handle_id: lease-") != 1) {
			err = errors.New(out)
		}
		return err
	})
}
