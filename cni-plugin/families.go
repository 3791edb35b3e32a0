// SPDX-License-Identifier: Apache-2.0

package cniplugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"korat/cni-plugin/socket"
)

// IPAM is what the configuration says of the two families.
type IPAM struct {
	IPv4, IPv6 Family
}

// Family is what the configuration says of one family.
type Family struct {
	// Assign says whether the pod gets an address of it.
	Assign bool
	// Pools limits automatic assignment, by name or CIDR.
	Pools []string
}

// asked are the families that the agent is asked for.
func (i IPAM) asked() []socket.Family {
	var all []socket.Family
	if i.IPv4.Assign {
		all = append(all, socket.Family{Version: 4, Pools: i.IPv4.Pools})
	}
	if i.IPv6.Assign {
		all = append(all, socket.Family{Version: 6, Pools: i.IPv6.Pools})
	}
	return all
}

// check compares what belongs together, once everything is read.
func (i IPAM) check(mtu int) error {
	switch {
	case !i.IPv4.Assign && !i.IPv6.Assign:
		return at("ipam.assign_ipv4", invalid("it is false, as is ipam.assign_ipv6: a pod needs an address: set one of them to \"true\""))
	case len(i.IPv4.Pools) > 0 && !i.IPv4.Assign:
		return at("ipam.ipv4_pools", invalid("ipam.assign_ipv4 is false: set it to \"true\", or remove the pools"))
	case len(i.IPv6.Pools) > 0 && !i.IPv6.Assign:
		return at("ipam.ipv6_pools", invalid("ipam.assign_ipv6 is false: set it to \"true\", or remove the pools"))
	case i.IPv6.Assign && mtu != 0 && mtu < minMTUIPv6:
		return at("mtu", invalid("%d is too small for IPv6, which ipam.assign_ipv6 asks for: want at least %d", mtu, minMTUIPv6))
	}
	return nil
}

// refusal says why a pod cannot have a fixed address: it gets none of the family.
func (i IPAM) refusal(addr netip.Addr) string {
	if family := i.of(addr); family.Assign {
		return ""
	}
	return fmt.Sprintf("ipam.assign_ipv%d is false: set it to \"true\" for a pod to have %s", versionOf(addr), addr)
}

func (i IPAM) of(addr netip.Addr) Family {
	if addr.Is4() {
		return i.IPv4
	}
	return i.IPv6
}

func versionOf(addr netip.Addr) int {
	if addr.Is4() {
		return 4
	}
	return 6
}

// readAssign reads a boolean, or one in quotes, as Calico's configuration has it.
func (f *Family) readAssign(raw json.RawMessage) error {
	switch strings.ToLower(strings.Trim(string(raw), `"`)) {
	case "true":
		f.Assign = true
	case "false":
		f.Assign = false
	default:
		return invalid("%s: want true or false", shown(raw))
	}
	return nil
}

func (f *Family) readPools(raw json.RawMessage, version int) error {
	var pools []string
	if err := decode(raw, &pools); err != nil {
		return err
	}
	for i, pool := range pools {
		if reason := badPool(pool, version); reason != "" {
			return invalid("entry %d, %s: %s", i, quote(pool), reason)
		}
	}
	f.Pools = pools
	return nil
}

func badPool(pool string, version int) string {
	if !strings.Contains(pool, "/") {
		if reason := badDNSName(pool, maxName); reason != "" {
			return "neither a CIDR nor an IP pool's name: " + reason
		}
		return ""
	}
	example := "172.17.0.0/16"
	if version == 6 {
		example = "fd00:172:17::/48"
	}
	prefix, err := netip.ParsePrefix(pool)
	switch {
	case err != nil || prefix.Addr().Is4In6() || versionOf(prefix.Addr()) != version:
		return fmt.Sprintf("want an IPv%d CIDR such as %s, or an IP pool's name", version, example)
	case prefix != prefix.Masked():
		return "it has host bits: write " + prefix.Masked().String()
	}
	return ""
}

// readIPs reads the fixed addresses that a runtime asks for. They may have prefix lengths, which mean
// nothing: each is the pod's alone.
func readIPs(c *Config, raw json.RawMessage) error {
	var texts []string
	if err := decode(raw, &texts); err != nil {
		return err
	}
	var asked []netip.Addr
	for _, text := range texts {
		bare := text
		if prefix, err := netip.ParsePrefix(text); err == nil {
			bare = prefix.Addr().String()
		}
		addr, err := podAddress(bare)
		if err != nil {
			return invalid("%s: %v", quote(text), err)
		}
		if sameFamily(asked, addr).IsValid() {
			return unsupported("%s is not supported: a pod has one IPv%d address", shown(raw), versionOf(addr))
		}
		if other := sameFamily(c.Asked.Addresses, addr); other.IsValid() && other != addr {
			return invalid("%s: args.cni.ips asks for %s: give one of them", quote(text), other)
		}
		asked = append(asked, addr)
	}
	c.Asked.Addresses = merge(c.Asked.Addresses, asked)
	return nil
}

// podAddress reads an address that is asked for.
func podAddress(text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		return addr, errors.New("want an address such as 172.17.0.5 or fd00:172:17::5, without prefix length")
	case addr.Zone() != "" || addr.Is4In6() || addr.IsUnspecified() || addr.IsLoopback() || addr.IsMulticast() || addr.IsLinkLocalUnicast():
		return addr, errors.New("a pod cannot have this address: choose one of an IP pool")
	}
	return addr, nil
}

// sameFamily gives the one of the addresses that is of addr's family, or an invalid one.
func sameFamily(addrs []netip.Addr, addr netip.Addr) netip.Addr {
	for _, other := range addrs {
		if other.Is4() == addr.Is4() {
			return other
		}
	}
	return netip.Addr{}
}

// merge adds the addresses whose family is not there yet.
func merge(addrs, more []netip.Addr) []netip.Addr {
	for _, addr := range more {
		if !sameFamily(addrs, addr).IsValid() {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}
