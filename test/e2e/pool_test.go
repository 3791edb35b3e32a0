// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"korat/test/lab"
)

// pool is an IPPool's manifest.
func pool(name, cidr string, blockSize int, disabled bool) string {
	return fmt.Sprintf("apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: %s}\nspec: {cidr: %s, blockSize: %d, disabled: %t}\n",
		name, cidr, blockSize, disabled)
}

// network is a network configuration with an ipam part.
func network(ipam string) string {
	return `{"cniVersion":"1.0.0","name":"korat","type":"korat","ipam":{"type":"korat-ipam",` + ipam + `}}`
}

// TestPools goes from no pool at all to several, of which one is disabled and one full.
func TestPools(t *testing.T) {
	w := hosts(t, 2, "no-default-pool: true\n")
	a, b := w.host("a"), w.host("b")
	if err := w.StartAgents(); err != nil {
		t.Fatal(err)
	}
	w.ready(w.Agents...)
	w.refused(a, lab.PodConfig{Name: "p0"}, 11, "there is no IPPool with IPv4 addresses: create one")

	// A released address is to be had at once.
	w.koratctl(a, "apply", "apiVersion: projectcalico.org/v3\nkind: IPAMConfiguration\nmetadata: {name: default}\nspec: {ipCooldownSeconds: 0}\n")
	w.koratctl(a, "create", pool("one", "10.32.0.0/16", 26, false))
	p1, b1 := w.pod(a, "p1"), w.pod(b, "b1")
	w.inside(p1, "10.32.0.0/16")
	w.koratctl(a, "apply", pool("one", "10.32.0.0/16", 26, true)+"---\n"+pool("two", "10.33.0.0/24", 28, false))
	for _, h := range w.Hosts() {
		// It hears of the change in its own time; until then "one" would do for it.
		w.until(h.Name+" knows the pools", func(ctx context.Context) error {
			return w.knowsPool(ctx, h, `address 10.32.255.1: its pool "one" is disabled: want one of two (10.33.0.0/24)`)
		})
	}
	p2 := w.pod(a, "p2")
	w.inside(p2, "10.33.0.0/24")

	p3, err := a.AddPod(w.limit(), lab.PodConfig{Name: "p3", Args: "IP=10.33.0.200"})
	if err != nil {
		t.Fatal(err)
	}
	w.inside(p3, "10.33.0.200/32")
	w.refused(a, lab.PodConfig{Name: "p4", Args: "IP=10.33.0.200"}, 101, "address 10.33.0.200 is in use by pod default/p3")
	w.refused(b, lab.PodConfig{Name: "b4", Args: "IP=10.33.0.201"}, 101, `address 10.33.0.201: its block belongs to node "a"`)
	w.refused(a, lab.PodConfig{Name: "p4", Args: "IP=10.99.0.1"}, 101, "address 10.99.0.1: ")
	w.refused(a, lab.PodConfig{Name: "p4", Network: network(`"ipv4_pools":["four"]`)}, 101, `"four"`)
	w.refused(a, lab.PodConfig{Name: "p4", Network: network(`"ipv4_pools":["one"]`)}, 101, `"one"`)

	w.koratctl(a, "create", pool("three", "10.34.0.0/31", 32, false))
	w.until("a knows the new pool", func(ctx context.Context) error {
		return w.knowsPool(ctx, a, `address 10.32.255.1: its pool "one" is disabled: want one of three (10.34.0.0/31), two (10.33.0.0/24)`)
	})
	var last *lab.Pod
	for i := range 2 {
		if last, err = a.AddPod(w.limit(), lab.PodConfig{Name: fmt.Sprintf("three%d", i), Network: network(`"ipv4_pools":["10.34.0.0/31"]`)}); err != nil {
			t.Fatal(err)
		}
		w.inside(last, "10.34.0.0/31")
	}
	full := lab.PodConfig{Name: "three2", Network: network(`"ipv4_pools":["three"]`)}
	w.refused(a, full, 101, `no free address and no free block: pool "three" (10.34.0.0/31, `)
	if err := last.Delete(w.limit()); err != nil {
		t.Error(err)
	}
	again, err := a.AddPod(w.limit(), full)
	if err != nil {
		t.Fatal(err)
	}
	if again.Address() != last.Address() {
		t.Errorf("%s has %s, want %s, the only free address", again.Name, again.Address(), last.Address())
	}

	// Pods of the disabled pool run on, and leave.
	w.meshed(a, b)
	w.matrix(w.places())
	for _, p := range []*lab.Pod{p1, b1} {
		if err := p.Delete(w.limit()); err != nil {
			t.Error(err)
		}
	}
	w.stored(a, "p2", "p3", "three0", "three2")
}

// knowsPool asks for an address of a disabled pool and wants the plugin to say this.
func (w *world) knowsPool(ctx context.Context, h *lab.Host, want string) error {
	p, err := h.AddPod(ctx, lab.PodConfig{Name: "probe", Args: "IP=10.32.255.1"})
	if err == nil {
		return errors.Join(errors.New("the address was given"), p.Delete(ctx))
	}
	if !strings.Contains(err.Error(), want) {
		return fmt.Errorf("have %w, want %s", err, want)
	}
	return nil
}

// inside wants a pod's address in a prefix.
func (w *world) inside(p *lab.Pod, prefix string) {
	w.Helper()
	if !netip.MustParsePrefix(prefix).Contains(p.Address()) {
		w.Errorf("%s has %s, want one of %s", p.Name, p.Address(), prefix)
	}
}
