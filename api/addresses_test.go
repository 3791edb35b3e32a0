// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/netip"
	"slices"
	"testing"
)

func TestAddresses(t *testing.T) {
	four, six := netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("2001:db8::1/64")
	for _, tt := range []struct {
		have       Addresses
		all        []netip.Prefix
		text       string
		has4, has6 bool
	}{
		{Addresses{}, nil, "", false, false},
		{Addresses{IPv4: four}, []netip.Prefix{four}, "192.0.2.1/24", true, false},
		{Addresses{IPv6: six}, []netip.Prefix{six}, "2001:db8::1/64", false, true},
		{Addresses{IPv4: four, IPv6: six}, []netip.Prefix{four, six}, "192.0.2.1/24, 2001:db8::1/64", true, true},
	} {
		if got := tt.have.String(); got != tt.text {
			t.Errorf("have %s, want %s", got, tt.text)
		}
		if got := tt.have.All(); !slices.Equal(got, tt.all) {
			t.Errorf("%v: All gives %v, want %v", tt.have, got, tt.all)
		}
		if got := tt.have.IsValid(); got != (len(tt.all) > 0) {
			t.Errorf("%v: IsValid gives %t", tt.have, got)
		}
		if tt.have.Has(four.Addr()) != tt.has4 || tt.have.Has(six.Addr()) != tt.has6 || tt.have.Has(netip.Addr{}) {
			t.Errorf("%v: Has is wrong about its own", tt.have)
		}
		if tt.have.Has(netip.MustParseAddr("192.0.2.2")) || tt.have.Has(netip.MustParseAddr("2001:db8::2")) {
			t.Errorf("%v: Has takes another's", tt.have)
		}
	}
}

func TestFamily(t *testing.T) {
	var none, mapped netip.Addr
	mapped = netip.MustParseAddr("::ffff:10.0.0.1")
	all := Addresses{IPv4: netip.MustParsePrefix("10.0.0.1/24"), IPv6: netip.MustParsePrefix("fd00::1/64")}
	for _, f := range Families() {
		for _, other := range Families() {
			if have := f.Has(all.Of(other).Addr()); have != (f == other) {
				t.Errorf("%s has %s: %v", f, all.Of(other), have)
			}
		}
		if f.Has(none) || f.Has(mapped) || (Addresses{}).Of(f).IsValid() {
			t.Errorf("%s has what it has not", f)
		}
	}
}
