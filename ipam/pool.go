// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"korat/api"
	"korat/ipam/block"
)

// Family is an address family.
type Family uint8

// The address families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// String gives "IPv4" or "IPv6".
func (f Family) String() string { return "IPv" + strconv.Itoa(int(f)) }

func familyOf(a netip.Addr) Family {
	if a.Unmap().Is4() {
		return IPv4
	}
	return IPv6
}

// has says whether the address is of the family.
func (f Family) has(a netip.Addr) bool { return familyOf(a) == f }

// Pool is an enabled api.IPPool.
type Pool struct {
	Name string
	CIDR netip.Prefix
	// BlockBits is the prefix length of its blocks.
	BlockBits int
}

// family is that of the pool's addresses.
func (p Pool) family() Family { return familyOf(p.CIDR.Addr()) }

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

// pools are the datastore's pools, by name.
type pools struct {
	enabled []Pool
	// disabled pools keep their addresses but give out none.
	disabled []Pool
	problems []error
}

// readPools never fails: a pool that can't be read is left out, and reported.
func readPools(table api.Table[*api.IPPool]) pools {
	var ps pools
	for name, obj := range table.All() {
		p, err := readPool(name, obj.Spec)
		switch {
		case err != nil:
			ps.problems = append(ps.problems, fmt.Errorf("IPPool/%s: %w", name, err))
		case usable(obj):
			ps.enabled = append(ps.enabled, p)
		default:
			ps.disabled = append(ps.disabled, p)
		}
	}
	return ps
}

func readPool(name string, spec api.IPPoolSpec) (Pool, error) {
	cidr, err := netip.ParsePrefix(spec.CIDR)
	if err != nil {
		return Pool{}, fmt.Errorf("spec.cidr: %w", err)
	}
	p := Pool{name, cidr, spec.BlockSize}
	switch bits := cidr.Addr().BitLen(); {
	case cidr != cidr.Masked() || cidr.Addr().Is4In6():
		return p, fmt.Errorf("spec.cidr %s: want a range without host bits", cidr)
	case p.BlockBits < cidr.Bits() || p.BlockBits > bits || bits-p.BlockBits > block.MaxHostBits:
		return p, fmt.Errorf("spec.blockSize %d: want %d to %d", p.BlockBits, max(cidr.Bits(), bits-block.MaxHostBits), bits)
	}
	return p, nil
}

// usable says whether new addresses may come from the pool. An object that went through
// api.Default has the last two fields set.
func usable(obj *api.IPPool) bool {
	s := obj.Spec
	return !s.Disabled && obj.DeletionTimestamp == nil &&
		(len(s.AllowedUses) == 0 || slices.Contains(s.AllowedUses, api.UseWorkload)) &&
		(s.AssignmentMode == "" || s.AssignmentMode == api.AssignAutomatic)
}

// named gives the enabled pools that the request names for each family, by name or CIDR, in the order of
// their names; all of the family's if it names none.
func (ps pools) named(names map[Family][]string) ([]Pool, error) {
	for _, f := range []Family{IPv4, IPv6} {
		for _, name := range names[f] {
			if err := ps.usableFor(f, name); err != nil {
				return nil, err
			}
		}
	}
	var chosen []Pool
	for _, p := range ps.enabled {
		some := names[p.family()]
		if len(some) == 0 || slices.ContainsFunc(some, func(name string) bool { return matches(name)(p) }) {
			chosen = append(chosen, p)
		}
	}
	return chosen, nil
}

// usableFor says why a pool that the request names for a family can't be used.
func (ps pools) usableFor(f Family, name string) error {
	what := fmt.Sprintf("pool %q", name)
	if i := slices.IndexFunc(ps.enabled, matches(name)); i >= 0 {
		if have := ps.enabled[i].family(); have != f {
			return &PoolError{what, fmt.Sprintf("it has %s addresses, and is asked for %s ones: want one of %s", have, f, list(of(ps.enabled, f)))}
		}
		return nil
	}
	if slices.ContainsFunc(ps.disabled, matches(name)) {
		return &PoolError{what, "it is disabled: enable it or name another: " + list(of(ps.enabled, f))}
	}
	return &PoolError{what, "there is none of that name or CIDR: want one of " + list(of(ps.enabled, f))}
}

func matches(name string) func(Pool) bool {
	cidr, err := netip.ParsePrefix(name)
	return func(p Pool) bool { return p.Name == name || err == nil && p.CIDR == cidr }
}

// of gives the pool that an address asked for by name must come from.
func (ps pools) of(a netip.Addr, allowed []Pool) (Pool, error) {
	what := "address " + a.String()
	allowed = of(allowed, familyOf(a))
	for _, p := range allowed {
		if p.CIDR.Contains(a) {
			return p, nil
		}
	}
	for _, p := range ps.disabled {
		if p.CIDR.Contains(a) {
			return p, &PoolError{what, fmt.Sprintf("its pool %q is disabled: want one of %s", p.Name, list(allowed))}
		}
	}
	return Pool{}, &PoolError{what, "it is in none of the usable pools: want one of " + list(allowed)}
}

// list gives pools as "a (10.0.0.0/16), b (10.1.0.0/16)".
func list(ps []Pool) string {
	if len(ps) == 0 {
		return "none: there is no enabled IPPool"
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
