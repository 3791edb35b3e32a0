// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"korat/test/lab"
)

// What the act's policies tell apart.
const (
	webPort, otherPort = 8080, 9090

	web, client, guest = "app=web", "role=client", "role=guest"
)

// labels are those of a host's i-th pod: the first is a web server and the second a client, but on the last host
// a guest, as are all others.
func labels(i int, last bool) map[string]string {
	text := guest
	switch {
	case i == 0:
		text = web
	case i == 1 && !last:
		text = client
	}
	key, value, _ := strings.Cut(text, "=")
	return map[string]string{key: value}
}

// scene is what is applied, and who connects to whom from then on.
type scene struct {
	title string
	// file has the manifest; none applies nothing.
	file, manifest string
	allows         func(from, to party, port uint16) bool
}

// scenes are the act.
func scenes() []scene {
	return []scene{
		{title: "No policy", allows: func(party, party, uint16) bool { return true }},
		{
			title: "Default deny", file: "deny.yaml",
			manifest: `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny}
spec: {podSelector: {}, policyTypes: [Ingress]}
`,
			allows: func(party, party, uint16) bool { return false },
		},
		{
			title: "Allowed by label and port", file: "allow.yaml",
			manifest: `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: allow}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from: [{podSelector: {matchLabels: {role: client}}}]
    ports: [{port: 8080}]
`,
			allows: func(from, to party, port uint16) bool {
				return from.label == client && to.label == web && port == webPort
			},
		},
	}
}

// stage is what the act is played with.
type stage struct {
	out io.Writer
	// host is where policies are applied.
	host    *lab.Host
	parties []party
}

// maxParties bounds the table.
const maxParties = 8

// play is the act: it applies policies, and prints who then connects to whom. Its error says what was not as it should be.
func play(ctx context.Context, out io.Writer, c *lab.Cluster) error {
	s := &stage{out: out, host: c.Hosts()[0], parties: parties(c)}
	if len(s.parties) < 2 {
		fmt.Fprintln(out, "\nNo policies are shown: it takes two pods.")
		return nil
	}
	stop, err := serve(ctx, s.parties)
	defer stop()
	if err != nil {
		return err
	}
	title(out, fmt.Sprintf("Network policy: each pod is asked for connections to its ports %d and %d, by all others", webPort, otherPort))
	count, allowed, before := 0, 0, func(party, party, uint16) bool { return true }
	for _, scene := range scenes() {
		err = errors.Join(err, s.change(ctx, scene, before))
		t := connectAll(ctx, s.parties)
		err = errors.Join(err, t.show(out, scene))
		count, allowed = count+len(t.flows), allowed+t.passed()
		before = scene.allows
	}
	err = errors.Join(err, s.explain(ctx, scenes()[2]), s.remove(ctx, before))
	if err == nil {
		fmt.Fprintf(out, "\nAll %d connections were as the policies say: %d passed, %d were blocked.\n", count, allowed, count-allowed)
	}
	return err
}

// change applies a scene's policy, and says how long that took to be seen.
func (s *stage) change(ctx context.Context, next scene, before func(from, to party, port uint16) bool) error {
	if next.file == "" {
		return nil
	}
	path := "/run/" + next.file
	if err := s.host.WriteFile(path, []byte(next.manifest), 0o644); err != nil {
		return err
	}
	if err := output(ctx, s.out, "host "+s.host.Name, s.host, "cat", path); err != nil {
		return err
	}
	return s.update(ctx, changed(s.parties, before, next.allows), "koratctl", "apply", "-f", path)
}

// remove takes the policies away.
func (s *stage) remove(ctx context.Context, before func(from, to party, port uint16) bool) error {
	argv := []string{"koratctl", "delete"}
	for _, scene := range scenes() {
		if scene.file != "" {
			argv = append(argv, "-f", "/run/"+scene.file)
		}
	}
	return s.update(ctx, changed(s.parties, before, scenes()[0].allows), argv...)
}

// update runs koratctl and waits until connections of each kind that it concerns are as they are to be.
func (s *stage) update(ctx context.Context, concerned []wish, argv ...string) error {
	began := time.Now()
	effect := make(chan error, 1)
	var last time.Time
	go func() {
		var err error
		last, err = await(ctx, s.parties, concerned)
		effect <- err
	}()
	err := output(ctx, s.out, "host "+s.host.Name, s.host, argv...)
	took := time.Since(began)
	if err = errors.Join(err, <-effect); err != nil {
		return err
	}
	if len(concerned) == 0 {
		fmt.Fprintln(s.out, "  it concerns none of these pods")
		return nil
	}
	fmt.Fprintf(s.out, "  in effect for all pods %s after this command was begun (the command itself took %s)\n", milliseconds(last.Sub(began)), milliseconds(took))
	return nil
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%d ms", d.Milliseconds()) }

// explain prints what koratctl says of a connection that passed, and of one that did not for its label alone.
func (s *stage) explain(ctx context.Context, scene scene) error {
	var err error
	for _, from := range []string{client, guest} {
		i := slices.IndexFunc(s.parties, func(p party) bool { return p.label == from })
		if i < 0 {
			continue
		}
		// The first server: of another host, if there is one.
		j := slices.IndexFunc(s.parties, func(p party) bool { return p.label == web && p.host != s.parties[i].host })
		if j < 0 {
			j = slices.IndexFunc(s.parties, func(p party) bool { return p.label == web })
		}
		// Where the flow ends the kernel's counters are.
		host := s.parties[j].host
		explained := output(ctx, s.out, "host "+host.Name, host, "koratctl", "explain",
			"--from", "default/"+s.parties[i].name, "--to", "default/"+s.parties[j].name, "--port", fmt.Sprint(webPort), "--proto", "tcp")
		// Exit code 1 says denied.
		switch denied := exitCode(explained) == 1; {
		case explained != nil && !denied:
			err = errors.Join(err, explained)
		case denied == scene.allows(s.parties[i], s.parties[j], webPort):
			err = errors.Join(err, fmt.Errorf("koratctl explain says otherwise of %s to %s", s.parties[i].name, s.parties[j].name))
		}
	}
	return err
}

// parties are the first two pods of each host.
func parties(c *lab.Cluster) []party {
	var all []party
	for _, h := range c.Hosts() {
		for i, p := range h.Pods() {
			if i < 2 && len(all) < maxParties {
				all = append(all, newParty(p))
			}
		}
	}
	return all
}

// party is a pod that connects to others and is connected to.
type party struct {
	name, label string
	host        *lab.Host
	addresses   []netip.Addr
	net         network
}

func newParty(p *lab.Pod) party {
	label := ""
	for key, value := range p.Labels {
		label = key + "=" + value
	}
	return party{name: p.Name, label: label, host: p.Host, addresses: p.Addresses(), net: p}
}
