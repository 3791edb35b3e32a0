// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/pflag"

	"korat/api"
	"korat/felix"
	"korat/felix/autodetect"
)

// The words that stand in the place of an address or a range.
const (
	wordAutodetect = "autodetect"
	wordNone       = "none"
)

// addressSettings say where the node has its addresses from.
type addressSettings struct{ ip, method, ip6, method6 string }

func (s *addressSettings) register(f *pflag.FlagSet) {
	const methods = "first-found, can-reach=ADDRESS, interface=REGEX, skip-interface=REGEX or cidr=CIDR"
	f.StringVar(&s.ip, "ip", wordAutodetect, "this node's IPv4 address, autodetect or none")
	f.StringVar(&s.method, "ip-autodetection-method", "first-found", methods)
	f.StringVar(&s.ip6, "ip6", wordNone, "this node's IPv6 address, autodetect or none")
	f.StringVar(&s.method6, "ip6-autodetection-method", "first-found", methods)
}

// sources gives the settings' meaning for each family. Every error names the flag.
func (s addressSettings) sources() (ipv4, ipv6 felix.Source, err error) {
	if ipv4, err = source(api.IPv4, s.ip, s.method); err != nil {
		return ipv4, ipv6, err
	}
	ip6 := s.ip6
	if ip6 == "" {
		ip6 = wordNone
	}
	if ipv6, err = source(api.IPv6, ip6, s.method6); err != nil {
		return ipv4, ipv6, err
	}
	if ipv4.None() && ipv6.None() {
		return ipv4, ipv6, errors.New("--ip, --ip6: both are none: a node needs an address")
	}
	return ipv4, ipv6, nil
}

func source(f api.Family, text, method string) (felix.Source, error) {
	flag := autodetect.Flag(f)
	m, err := autodetect.Parse(method, f)
	if err != nil {
		return felix.Source{}, fmt.Errorf("%s-autodetection-method: %w", flag, err)
	}
	switch text {
	case wordNone:
		return felix.Source{}, nil
	case wordAutodetect, "":
		return felix.Source{Method: m}, nil
	}
	addr, err := parseAddress(f, text)
	if err != nil {
		return felix.Source{}, fmt.Errorf("%s: %w", flag, err)
	}
	return felix.Source{Address: addr}, nil
}

// parseAddress takes an address with or without a prefix length; the kernel knows the length.
func parseAddress(f api.Family, text string) (netip.Addr, error) {
	alone, _, _ := strings.Cut(text, "/")
	addr, err := netip.ParseAddr(alone)
	if p, prefixErr := netip.ParsePrefix(text); alone != text {
		addr, err = p.Addr(), prefixErr
	}
	example, other := "192.0.2.1", api.IPv6
	if f == api.IPv6 {
		example, other = "2001:db8::1", api.IPv4
	}
	switch {
	case err == nil && other.Has(addr):
		return addr, fmt.Errorf("%q: is an %s address: give it as %s", text, other, autodetect.Flag(other))
	case err != nil || !f.Has(addr):
		return addr, fmt.Errorf("%q: want an %s address of this host, such as %s, or autodetect or none", text, f, example)
	case addr.Zone() != "" || addr.Is6() && addr.IsLinkLocalUnicast():
		return addr, fmt.Errorf("%q: is link-local, which means nothing to other nodes: want an address such as %s", text, example)
	}
	return addr, nil
}

// poolSettings say which pools a new cluster gets.
type poolSettings struct {
	cidr, cidr6           string
	blockSize, blockSize6 int
	none                  bool
}

func (s *poolSettings) register(f *pflag.FlagSet) {
	f.StringVar(&s.cidr, "default-pool-cidr", "172.17.0.0/16", "the pool created when the datastore has none of IPv4, or none")
	f.IntVar(&s.blockSize, "default-pool-block-size", 24, "prefix length of that pool's blocks")
	f.StringVar(&s.cidr6, "default-pool6-cidr", "", "the pool created when the datastore has none of IPv6, or none; empty: a /48 derived from the cluster's GUID")
	f.IntVar(&s.blockSize6, "default-pool6-block-size", 122, "prefix length of that pool's blocks")
	f.BoolVar(&s.none, "no-default-pool", false, "create no pool")
}

// bootstrap gives the default pools of the families that the node has.
func (s poolSettings) bootstrap(id felix.Identity) (felix.Bootstrap, error) {
	b := felix.Bootstrap{Version: version}
	if s.none {
		return b, nil
	}
	var err error
	if s.cidr != wordNone && !id.IPv4.None() {
		if b.IPv4, err = defaultPool(api.IPv4, s.cidr, s.blockSize); err != nil {
			return b, fmt.Errorf("--default-pool-cidr, --default-pool-block-size: %w", err)
		}
	}
	switch {
	case s.cidr6 == wordNone:
	case !id.IPv6.None():
		if b.IPv6, err = defaultPool(api.IPv6, s.cidr6, s.blockSize6); err != nil {
			return b, fmt.Errorf("--default-pool6-cidr, --default-pool6-block-size: %w", err)
		}
	case s.cidr6 != "":
		return b, errors.New("--default-pool6-cidr: not with --ip6=none: nobody would route the pods' addresses")
	}
	return b, nil
}

// defaultPool checks the settings of one family's pool. An empty cidr stands for one that is derived.
func defaultPool(f api.Family, cidr string, blockSize int) (felix.DefaultPool, error) {
	want := felix.DefaultPool{BlockSize: blockSize, Derived: cidr == "" && f == api.IPv6}
	pool := &api.IPPool{}
	pool.Name = felix.DefaultPoolName
	if f == api.IPv6 {
		pool.Name = felix.DefaultPoolNameIPv6
	}
	pool.Spec.CIDR, pool.Spec.BlockSize = cidr, blockSize
	if want.Derived {
		pool.Spec.CIDR = "fd00::/48"
	}
	api.Default(pool)
	if err := api.Validate(pool); err != nil || want.Derived {
		return want, err
	}
	p, err := netip.ParsePrefix(cidr)
	if err == nil && !f.Has(p.Addr()) {
		err = fmt.Errorf("%s: spec.cidr: %q: want an %s range", pool.Key(), cidr, f)
	}
	want.CIDR = p
	return want, err
}
