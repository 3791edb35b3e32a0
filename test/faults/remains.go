// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"korat/api"
	"korat/felix/endpoint"
	"korat/ipam/journal"
	"korat/test/lab"
)

// Remains is what is left of pods that are gone, by kind; what may stay is not in it.
type Remains map[string][]string

// LeakKinds are the kinds of a Remains.
func LeakKinds() []string {
	return []string{
		"links", "routes", "neighbours", "chains", "sets", "pod interfaces", "journal entries", "queued DELs", "files",
		"stored endpoints", "stored addresses", "stored blocks",
	}
}

func (r Remains) add(kind string, h *lab.Host, what string) {
	if h != nil {
		what = h.Name + ": " + what
	}
	r[kind] = append(r[kind], what)
}

// err names what remains.
func (r Remains) err() error {
	var all []error
	for _, kind := range LeakKinds() {
		if n := len(r[kind]); n > 0 {
			all = append(all, fmt.Errorf("%s: %d, such as %s", kind, n, r[kind][0]))
		}
	}
	return errors.Join(all...)
}

// stored is what the datastore holds that concerns pods.
type stored struct {
	Endpoints  []api.WorkloadEndpoint
	Blocks     []api.IPAMBlock
	Affinities []api.BlockAffinity
}

// read asks koratctl for it.
func (s *Site) stored(ctx context.Context) (stored, error) {
	var have stored
	h := s.Hosts()[0]
	for kind, into := range map[string]any{"wep": &have.Endpoints, "ipamblocks": &have.Blocks, "blockaffinities": &have.Affinities} {
		out, err := h.Exec(ctx, "koratctl", "get", kind, "-A", "-o", "json")
		if err != nil {
			return have, err
		}
		var list struct{ Items json.RawMessage }
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			return have, fmt.Errorf("read %s: %w", kind, err)
		}
		if err := json.Unmarshal(list.Items, into); err != nil {
			return have, fmt.Errorf("read %s: %w", kind, err)
		}
	}
	return have, nil
}

// Remains looks at hosts and datastore when all pods are gone.
func (s *Site) Remains(ctx context.Context) (Remains, error) {
	left := Remains{}
	have, err := s.stored(ctx)
	if err != nil {
		return left, err
	}
	for _, ep := range have.Endpoints {
		left.add("stored endpoints", nil, ep.Namespace+"/"+ep.Name)
	}
	owners := map[string]string{}
	for _, b := range have.Blocks {
		for i, attribute := range b.Spec.Allocations {
			if attribute != nil && !cooling(b.Spec.Attributes[*attribute]) {
				left.add("stored addresses", nil, fmt.Sprintf("number %d of %s: %s", i, b.Spec.CIDR, b.Spec.Attributes[*attribute].HandleID))
			}
		}
		if b.Spec.Affinity != nil {
			owners[b.Spec.CIDR] = strings.TrimPrefix(*b.Spec.Affinity, "host:")
		}
	}
	unpaired(left, owners, have.Affinities)
	for _, h := range s.Hosts() {
		if err := onHost(ctx, left, h, owners); err != nil {
			return left, err
		}
	}
	return left, nil
}

// cooling says whether an address is free, but not to be given again yet: Calico's attribute says since when.
func cooling(a api.AllocationAttribute) bool {
	text, err := json.Marshal(a)
	return err == nil && strings.Contains(string(text), `"releasedAt":`)
}

// unpaired finds blocks without a confirmed affinity and the reverse.
func unpaired(left Remains, owners map[string]string, affinities []api.BlockAffinity) {
	claimed := map[string]string{}
	for _, a := range affinities {
		claimed[a.Spec.CIDR] = a.Spec.Node
		if owners[a.Spec.CIDR] != a.Spec.Node || a.Spec.State != "confirmed" {
			left.add("stored blocks", nil, fmt.Sprintf("affinity %s of %s is %s, the block's owner is %q", a.Spec.CIDR, a.Spec.Node, a.Spec.State, owners[a.Spec.CIDR]))
		}
	}
	for cidr, owner := range owners {
		if claimed[cidr] != owner {
			left.add("stored blocks", nil, fmt.Sprintf("block %s of %s has no affinity", cidr, owner))
		}
	}
}

// onHost looks at kernel and files of one host.
func onHost(ctx context.Context, left Remains, h *lab.Host, owners map[string]string) error {
	for kind, look := range map[string]struct{ command, mark string }{
		"links":          {"ip -o link show", " " + endpoint.InterfacePrefix},
		"neighbours":     {"ip neigh show nud permanent", " dev " + endpoint.InterfacePrefix},
		"pod interfaces": {"ip -all netns exec ip -o link show", " eth0@"},
		"queued DELs":    {"find /run/korat/del -type f", "/"},
	} {
		out, err := h.Exec(ctx, strings.Fields(look.command)...)
		if err != nil {
			return err
		}
		for line := range strings.Lines(out) {
			if strings.Contains(line, look.mark) {
				left.add(kind, h, strings.TrimSpace(line))
			}
		}
	}
	files, err := h.Exec(ctx, "find", "/run/korat", "/var/lib/cni", "/run/lock", "-type", "f")
	if err != nil {
		return err
	}
	for file := range strings.FieldsSeq(files) {
		// The speaker keeps a status and what it died of; what is queued has been counted.
		if file != "/run/korat/endpoints.journal" && !strings.HasPrefix(file, "/run/korat/speaker.sock.") && !strings.HasPrefix(file, "/run/korat/del/") {
			left.add("files", h, file)
		}
	}
	return errors.Join(inJournal(ctx, left, h), inRoutes(ctx, left, h, owners), inFilter(ctx, left, h))
}

// inJournal reads a copy of the agent's record.
func inJournal(ctx context.Context, left Remains, h *lab.Host) error {
	text, err := h.Exec(ctx, "cat", "/run/korat/endpoints.journal")
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "journal")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "journal")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	j, err := journal.Open[endpoint.Endpoint](file)
	if err != nil {
		return err
	}
	defer j.Close()
	for key := range j.All() {
		left.add("journal entries", h, key)
	}
	return nil
}

// inRoutes holds the routes of ours against the blocks: a blackhole for each own one, a way to each other one.
func inRoutes(ctx context.Context, left Remains, h *lab.Host, owners map[string]string) error {
	want, have := blockRoutes(owners, h.Name), map[string]bool{}
	for _, family := range []string{"-4", "-6"} {
		out, err := h.Exec(ctx, "ip", "-o", family, "route", "show", "table", "all", "proto", "75")
		if err != nil {
			return err
		}
		for line := range strings.Lines(out) {
			route, ok := blockRoute(line)
			if !ok {
				continue
			}
			have[route] = true
			if !want[route] {
				left.add("routes", h, strings.TrimSpace(line))
			}
		}
	}
	for route := range want {
		if !have[route] && !single(route) {
			left.add("routes", h, "missing: "+route)
		}
	}
	return nil
}

// blockRoutes are the routes that the host has when it has no pods.
func blockRoutes(owners map[string]string, host string) map[string]bool {
	routes := map[string]bool{}
	for cidr, owner := range owners {
		routes[routeText(cidr, owner == host)] = true
	}
	return routes
}

// blockRoute reads a line of ip route; ok is false for the way to the pods' gateway, which is no block's.
func blockRoute(line string) (route string, ok bool) {
	text, own := strings.CutPrefix(line, "blackhole ")
	to, rest, _ := strings.Cut(text, " ")
	if !own && !strings.Contains(rest, "via ") && to == endpoint.Gateway().String() {
		return "", false
	}
	return routeText(to, own), true
}

func routeText(to string, own bool) string { return fmt.Sprintf("%s own: %t", to, own) }

// single says whether a block has one address: no blackhole is made for that.
func single(route string) bool {
	cidr, _, _ := strings.Cut(route, " ")
	p, err := netip.ParsePrefix(cidr)
	return err == nil && p.IsSingleIP()
}

// AwaitNothing waits until nothing remains; what remains then has leaked.
func (s *Site) AwaitNothing(ctx context.Context) (Remains, error) {
	left, last := Remains{}, error(nil)
	err := lab.Until(ctx, "nothing is left of any pod", func(ctx context.Context) error {
		now, err := s.Remains(ctx)
		if ctx.Err() != nil {
			return last
		}
		if err == nil {
			left, err = now, now.err()
		}
		last = err
		return err
	})
	if err == nil {
		return nil, nil
	}
	return left, fmt.Errorf("%w; before that: %w", err, last)
}
