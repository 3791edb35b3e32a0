// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"slices"
	"strings"

	"korat/api"
	"korat/policy"
)

// maxMembers is the most that a set of ours holds (FelixConfiguration's maxIpsetSize by default).
const maxMembers = 1 << 20

// Set gives a set as ipset restore takes it, its members sorted.
func Set(k policy.SetKey, members []policy.Member) (string, error) {
	if err := name("set", k.Name, maxSet); err != nil {
		return "", err
	}
	kind, err := setType(k)
	if err != nil {
		return "", err
	}
	lines := make([]string, len(members))
	for i, m := range members {
		if lines[i], err = member(k, m); err != nil {
			return "", fmt.Errorf("set %s: member %s: %w", k.Name, m, err)
		}
	}
	slices.Sort(lines)
	return "create " + k.Name + " " + kind + "\n" + strings.Join(lines, ""), nil
}

func setType(k policy.SetKey) (string, error) {
	family := "inet"
	if k.Family == api.IPv6 {
		family = "inet6"
	}
	switch k.Kind {
	case policy.Prefixes:
		return fmt.Sprintf("hash:net family %s maxelem %d", family, maxMembers), nil
	case policy.AddressPorts:
		return fmt.Sprintf("hash:ip,port family %s maxelem %d", family, maxMembers), nil
	case policy.PortNumbers:
		return "bitmap:port range 0-65535", nil
	}
	return "", fmt.Errorf("set %s: kind %d: unknown", k.Name, k.Kind)
}

func member(k policy.SetKey, m policy.Member) (string, error) {
	if k.Kind == policy.PortNumbers {
		return fmt.Sprintf("add %s %d\n", k.Name, m.Port), nil
	}
	if !m.Prefix.IsValid() || api.FamilyOf(m.Prefix.Addr()) != k.Family {
		return "", fmt.Errorf("no prefix of %s", k.Family)
	}
	if k.Kind == policy.AddressPorts {
		return fmt.Sprintf("add %s %s,%s:%d\n", k.Name, m.Prefix.Addr(), protocol(m.Protocol), m.Port), nil
	}
	// ipset prints a single address without its length, and takes no prefix of length 0.
	if m.Prefix.Bits() == 0 {
		return "", fmt.Errorf("hash:net holds no prefix of length 0: it takes two of length 1")
	}
	if m.Prefix.IsSingleIP() {
		return fmt.Sprintf("add %s %s\n", k.Name, m.Prefix.Addr()), nil
	}
	return fmt.Sprintf("add %s %s\n", k.Name, m.Prefix.Masked()), nil
}
