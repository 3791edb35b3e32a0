// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"korat/api"
	"korat/ipam/block"
	"korat/policy/selector"
)

// anyOf says whether one of the addresses is of the family.
func anyOf(addrs []netip.Addr, f api.Family) bool {
	return slices.ContainsFunc(addrs, func(a netip.Addr) bool { return api.FamilyOf(a) == f })
}

// Pool is an api.IPPool.
type Pool struct {
	Name string
	CIDR netip.Prefix
	// BlockBits is the prefix length of its blocks.
	BlockBits int
	// Manual pools give addresses only to requests that name the pool or the address.
	Manual bool
}

// family is that of the pool's addresses.
func (p Pool) family() api.Family { return api.FamilyOf(p.CIDR.Addr()) }

// holds says whether a block lies in the pool.
func (p Pool) holds(b netip.Prefix) bool {
	return p.CIDR.Contains(b.Addr()) && b.Bits() >= p.CIDR.Bits()
}

// blockOf gives the block that an address of the pool belongs to.
func (p Pool) blockOf(a netip.Addr) netip.Prefix {
	b, _ := a.Prefix(p.BlockBits)
	return b
}

// blocks counts the pool's blocks, as text because an IPv6 pool may have more than any integer.
func (p Pool) blocks() string {
	n := p.BlockBits - p.CIDR.Bits()
	if n > 62 {
		return fmt.Sprintf("2^%d", n)
	}
	return strconv.FormatUint(1<<n, 10)
}

// pools are the datastore's pools, by name, as one node may use them.
type pools struct {
	enabled []Pool
	// disabled pools keep their addresses but give this node none; why says it for each, by name.
	disabled []Pool
	why      map[string]string
	problems []error
}

// readPools never fails: a pool that can't be read is left out, and reported. A nodeSelector that can't be
// read selects nobody.
func readPools(table api.Table[*api.IPPool], labels map[string]string) pools {
	ps := pools{why: map[string]string{}}
	for name, obj := range table.All() {
		p, err := readPool(name, obj.Spec)
		if err != nil {
			ps.problems = append(ps.problems, fmt.Errorf("IPPool/%s: %w", name, err))
			continue
		}
		selected, err := selects(obj.Spec.NodeSelector, labels)
		if err != nil {
			ps.problems = append(ps.problems, fmt.Errorf("IPPool/%s: spec.nodeSelector %q selects no node: %w", name, obj.Spec.NodeSelector, err))
		}
		if why := unusable(obj, selected); why != "" {
			ps.disabled = append(ps.disabled, p)
			ps.why[name] = why
			continue
		}
		p.Manual = obj.Spec.AssignmentMode == api.AssignManual
		ps.enabled = append(ps.enabled, p)
	}
	return ps
}

// HostnameLabel is the label that Kubernetes gives to nodes. Where a Node has none, its name counts as the value, so
// that hosts without Kubernetes can be selected by it too.
const HostnameLabel = "kubernetes.io/hostname"

// nodeLabels are what pools select a node by.
func nodeLabels(snap api.Snapshot, node string) map[string]string {
	labels := map[string]string{HostnameLabel: node}
	if obj, ok := snap.Nodes.Get(node); ok {
		maps.Copy(labels, obj.Labels)
	}
	return labels
}

func selects(text string, labels map[string]string) (bool, error) {
	s, err := selector.Parse(text)
	return err == nil && s.Matches(labels), err
}

func readPool(name string, spec api.IPPoolSpec) (Pool, error) {
	cidr, err := netip.ParsePrefix(spec.CIDR)
	if err != nil {
		return Pool{}, fmt.Errorf("spec.cidr: %w", err)
	}
	p := Pool{Name: name, CIDR: cidr, BlockBits: spec.BlockSize}
	switch bits := cidr.Addr().BitLen(); {
	case cidr != cidr.Masked() || cidr.Addr().Is4In6():
		return p, fmt.Errorf("spec.cidr %s: want a range without host bits", cidr)
	case p.BlockBits < cidr.Bits() || p.BlockBits > bits || bits-p.BlockBits > block.MaxHostBits:
		return p, fmt.Errorf("spec.blockSize %d: want %d to %d", p.BlockBits, max(cidr.Bits(), bits-block.MaxHostBits), bits)
	}
	return p, nil
}

// unusable says why this node gets no new addresses from the pool, after "it"; empty if it does. An object that
// went through api.Default has all fields set.
func unusable(obj *api.IPPool, selected bool) string {
	switch s := obj.Spec; {
	case obj.DeletionTimestamp != nil:
		return "is being deleted"
	case s.Disabled:
		return "is disabled"
	case len(s.AllowedUses) > 0 && !slices.Contains(s.AllowedUses, api.UseWorkload):
		return fmt.Sprintf("is not for pods: its allowedUses are %v", s.AllowedUses)
	case !selected:
		return fmt.Sprintf("is not for this node: its nodeSelector is %q", s.NodeSelector)
	default:
		return ""
	}
}

// named gives the enabled pools of both families that a request may have addresses from, in the order of their
// names: of a family those that it names, by name or CIDR; all if it names none.
func (ps pools) named(names map[api.Family][]string) ([]Pool, error) {
	for _, f := range api.Families() {
		for _, name := range names[f] {
			if err := ps.refuse(name, f); err != nil {
				return nil, err
			}
		}
	}
	var chosen []Pool
	for _, p := range ps.enabled {
		wanted := names[p.family()]
		if len(wanted) == 0 || slices.ContainsFunc(wanted, func(name string) bool { return matches(name)(p) }) {
			chosen = append(chosen, p)
		}
	}
	return chosen, nil
}

// refuse says why a pool that a request names for a family can't be used; nil if it can.
func (ps pools) refuse(name string, f api.Family) error {
	what, match := fmt.Sprintf("pool %q", name), matches(name)
	enabled := of(ps.enabled, f)
	all := slices.Concat(ps.enabled, ps.disabled)
	i := slices.IndexFunc(all, match)
	switch {
	case slices.ContainsFunc(enabled, match):
		return nil
	case i < 0:
		return &PoolError{what, "there is none of that name or CIDR: want one of " + list(enabled)}
	case all[i].family() != f:
		return &PoolError{what, fmt.Sprintf("it has %s addresses, and is asked for %s ones: want one of %s", all[i].family(), f, list(enabled))}
	default:
		return &PoolError{what, fmt.Sprintf("it %s: want one of %s", ps.why[all[i].Name], list(enabled))}
	}
}

// automatic leaves out the pools that are for requests that name them, for each family that the request
// names none of.
func automatic(ps []Pool, named map[api.Family][]string) []Pool {
	var some []Pool
	for _, p := range ps {
		if !p.Manual || len(named[p.family()]) > 0 {
			some = append(some, p)
		}
	}
	return some
}

// none says why no pool of the family gives this node addresses.
func (ps pools) none(f api.Family) string {
	reasons := []string{}
	for _, p := range of(ps.enabled, f) {
		reasons = append(reasons, fmt.Sprintf("%s is for requests that name it", p.Name))
	}
	for _, p := range of(ps.disabled, f) {
		reasons = append(reasons, p.Name+" "+ps.why[p.Name])
	}
	if len(reasons) == 0 {
		return fmt.Sprintf("there is no IPPool with %s addresses: create one", f)
	}
	return fmt.Sprintf("no IPPool gives this node %s addresses: %s", f, strings.Join(reasons, "; "))
}

func matches(name string) func(Pool) bool {
	cidr, err := netip.ParsePrefix(name)
	return func(p Pool) bool { return p.Name == name || err == nil && p.CIDR == cidr }
}

// of gives the pool that an address asked for by name must come from.
func (ps pools) of(a netip.Addr, allowed []Pool) (Pool, error) {
	what := "address " + a.String()
	allowed = of(allowed, api.FamilyOf(a))
	for _, p := range allowed {
		if p.CIDR.Contains(a) {
			return p, nil
		}
	}
	for _, p := range ps.disabled {
		if p.CIDR.Contains(a) {
			return p, &PoolError{what, fmt.Sprintf("its pool %q %s: want one of %s", p.Name, ps.why[p.Name], list(allowed))}
		}
	}
	return Pool{}, &PoolError{what, "it is in none of the usable pools: want one of " + list(allowed)}
}

// list gives pools as "a (10.0.0.0/16), b (10.1.0.0/16)".
func list(ps []Pool) string {
	if len(ps) == 0 {
		return "none: no IPPool gives this node addresses"
	}
	parts := make([]string, len(ps))
	for i, p := range ps {
		parts[i] = fmt.Sprintf("%s (%s)", p.Name, p.CIDR)
	}
	return strings.Join(parts, ", ")
}

// readReservations gives the reserved ranges.
func readReservations(table api.Table[*api.IPReservation]) ([]netip.Prefix, error) {
	var all []netip.Prefix
	var errs []error
	for name, obj := range table.All() {
		for _, text := range obj.Spec.ReservedCIDRs {
			p, err := parseRange(text)
			if err != nil {
				errs = append(errs, fmt.Errorf("IPReservation/%s: spec.reservedCIDRs: %w", name, err))
				continue
			}
			all = append(all, p)
		}
	}
	return all, errors.Join(errs...)
}

// parseRange reads a CIDR or a single address.
func parseRange(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	return p.Masked(), err
}

// within gives a test for membership in any of the ranges; nil if there are none.
func within(ranges []netip.Prefix) func(netip.Addr) bool {
	if len(ranges) == 0 {
		return nil
	}
	return func(a netip.Addr) bool {
		return slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Contains(a) })
	}
}
