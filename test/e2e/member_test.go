// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"korat/test/lab"
)

// member makes another host on the cluster's switch, with the files of an etcd client. The interface
// on the cluster's switch comes after the others.
func (w *world) member(name, address string, others ...lab.Interface) *lab.Host {
	w.Helper()
	prefix := netip.MustParsePrefix(address)
	h, err := w.Cluster.Host(w.limit(), lab.HostConfig{Name: name, Interfaces: append(others, lab.Interface{Switch: w.Switch, Address: prefix})})
	if err != nil {
		w.Fatal(err)
	}
	cert, key, err := w.Authority.Issue(name, prefix.Addr())
	client := "datastore: etcd\netcd-endpoints: [https://192.168.100.100:2379]\n" +
		"etcd-ca: /etc/korat/tls/ca.pem\netcd-cert: /etc/korat/tls/node.pem\netcd-key: /etc/korat/tls/node-key.pem\n"
	err = errors.Join(err,
		h.WriteFile("/etc/korat/tls/ca.pem", w.Authority.PEM, 0o644),
		h.WriteFile("/etc/korat/tls/node.pem", cert, 0o644),
		h.WriteFile("/etc/korat/tls/node-key.pem", key, 0o600),
		h.WriteFile("/etc/korat/korat-node.yaml", []byte(client+settings), 0o600),
		h.WriteFile("/etc/korat/koratctl.yaml", []byte(client), 0o600),
	)
	if err != nil {
		w.Fatal(err)
	}
	return h
}

// TestNodeComesAndGoes adds a fourth node and takes it away again: the others' sessions do not notice.
func TestNodeComesAndGoes(t *testing.T) {
	w := cluster(t, 3)
	a, b, c := w.host("a"), w.host("b"), w.host("c")
	a1 := w.pod(a, "a1")
	old := func() string {
		all := ""
		for _, h := range []*lab.Host{a, b, c} {
			all += "with " + h.Name + ":\n" + w.sessionsOfPeers(h, a, b, c)
		}
		return all
	}
	before := old()

	d := w.member("d", "192.168.100.103/24")
	agent := w.start(d)
	w.ready(agent)
	d1 := w.pod(d, "d1")
	w.meshed(a, b, c, d)
	w.matrix(w.places())
	if after := old(); after != before {
		t.Errorf("the new node was seen by old sessions: before\n%s\nafter\n%s", before, after)
	}

	learned := block(d1.Address()).String() + " via 192.168.100.103 "
	if routes := w.run(a, "ip route"); !strings.Contains(routes, learned) {
		t.Errorf("no %q in\n%s", learned, routes)
	}
	if err := d1.Delete(w.limit()); err != nil {
		t.Error(err)
	}
	if err := agent.Stop(w.limit()); err != nil {
		t.Error(err)
	}
	w.kill(w.speaker(d), syscall.SIGTERM)
	w.flapped(d, 1, a, b, c)
	// Its peers keep the routes for the restart time; without its Node there is nothing to wait for.
	if routes := w.run(a, "ip route"); !strings.Contains(routes, learned) {
		t.Errorf("%q is gone with the speaker:\n%s", learned, routes)
	}
	w.run(b, "koratctl delete node d")
	w.meshed(a, b, c)
	w.until("the routes of the node are gone", func(ctx context.Context) error {
		for _, h := range []*lab.Host{a, b, c} {
			routes, err := h.Exec(ctx, "ip", "route")
			if err == nil && strings.Contains(routes, "192.168.100.103") {
				err = fmt.Errorf("%s has\n%s", h.Name, routes)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if after := old(); after != before {
		t.Errorf("the node's end was seen by others' sessions: before\n%s\nafter\n%s", before, after)
	}
	if err := reach(w.limit(), b, a1.Address()); err != nil {
		t.Error(err)
	}
}

// TestDatastoreDown takes the host with etcd's server away: pods of other hosts run on, come and go.
func TestDatastoreDown(t *testing.T) {
	w := cluster(t, 3)
	a, b, c := w.host("a"), w.host("b"), w.host("c")
	b1, b2, c1 := w.pod(b, "b1"), w.pod(b, "b2"), w.pod(c, "c1")
	w.matrix(w.places())
	w.stored(c, "b1", "b2", "c1")

	if err := w.Agents[0].Kill(); err != nil {
		t.Fatal(err)
	}
	w.kill(w.speaker(a), syscall.SIGKILL)
	w.flapped(a, 1, b, c)
	if r := w.try(b, "", "koratctl", "get", "nodes", "--timeout=500ms"); r.status != 1 ||
		!strings.Contains(r.stderr, "check that etcd runs at https://192.168.100.100:2379") {
		t.Errorf("koratctl without a datastore: %+v", r)
	}
	alive := []place{{"b1", b1.Address(), b1}, {"c1", c1.Address(), c1}, {"b", b.Address(), b}, {"c", c.Address(), c}}
	w.matrix(alive)
	b3 := w.pod(b, "b3")
	if err := b2.Delete(w.limit()); err != nil {
		t.Error(err)
	}
	w.matrix(append(alive, place{"b3", b3.Address(), b3}))

	// Restarted without a datastore, an agent leaves everything in place, takes pods away and refuses new ones.
	if err := w.Agents[1].Stop(w.limit()); err != nil {
		t.Error(err)
	}
	agent := w.start(b)
	w.notReady(b, "datastore not in sync")
	if err := b3.Delete(w.limit()); err != nil {
		t.Error(err)
	}
	w.matrix(alive)
	w.refused(b, lab.PodConfig{Name: "b4"}, 11, "datastore not in sync")

	w.ready(w.start(a), agent)
	w.meshed(a, b, c)
	w.stored(c, "b1", "c1")
	w.pod(b, "b5")
	w.stored(c, "b1", "b5", "c1")
	w.matrix(w.places())
}

// stored waits until the datastore has just these pods' WorkloadEndpoints, and their addresses.
func (w *world) stored(h *lab.Host, pods ...string) {
	w.Helper()
	w.until("the datastore has the pods "+strings.Join(pods, ", "), func(ctx context.Context) error {
		var want []string
		for _, host := range w.Hosts() {
			for _, p := range host.Pods() {
				want = append(want, fmt.Sprintf("%s %s %s/32", host.Name, p.Name, p.Address()))
			}
		}
		if len(want) != len(pods) {
			return fmt.Errorf("the lab has %v", want)
		}
		out, err := h.Exec(ctx, "koratctl", "get", "wep", "-A", "-o", "json")
		if err != nil {
			return err
		}
		have, err := endpoints(out)
		if err == nil && lines(strings.Join(have, "\n")) != lines(strings.Join(want, "\n")) {
			err = fmt.Errorf("have %v, want %v", have, want)
		}
		if err != nil {
			return err
		}
		for _, host := range w.Hosts() {
			for _, p := range host.Pods() {
				out, err := h.Exec(ctx, "koratctl", "ipam", "show", "--ip="+p.Address().String())
				if err == nil && !strings.Contains(out, p.Name) {
					err = fmt.Errorf("%s: %s", p.Name, out)
				}
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
}
