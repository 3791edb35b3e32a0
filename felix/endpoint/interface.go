// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"crypto/sha1"
	"encoding/hex"
	"net/netip"
)

// InterfacePrefix begins the name of every pod's interface on the host.
const InterfacePrefix = "cali"

// DefaultIfName is the interface inside the pod whose host side is named after the pod alone.
const DefaultIfName = "eth0"

// Gateway is every pod's IPv4 gateway. No interface has it: the pod has a permanent neighbour entry for
// it, and the host answers for it by proxy ARP. (As Calico's.)
func Gateway() netip.Addr { return netip.AddrFrom4([4]byte{169, 254, 1, 1}) }

// GatewayIPv6 is every pod's IPv6 gateway: the link-local address that the kernel makes of the host side's
// hardware address. (RFC 4291, appendix A; as Calico's) The pod has a permanent neighbour entry for it, too.
func GatewayIPv6() netip.Addr { return netip.MustParseAddr("fe80::ecee:eeff:feee:eeee") }

// GatewayFor gives the gateway of a pod's address.
func GatewayFor(addr netip.Addr) netip.Addr {
	if addr.Is4() {
		return Gateway()
	}
	return GatewayIPv6()
}

// HostInterface names the host's side of a pod's interface as Calico does: "cali" and the first 11 hex
// digits of the SHA-1 of "<namespace>.<pod>", and of "<namespace>.<pod>.<interface>" for any other
// interface than eth0. Interface names have at most 15 bytes (Linux, IFNAMSIZ).
func HostInterface(namespace, pod, ifName string) string {
	name := namespace + "." + pod
	if ifName != DefaultIfName {
		name += "." + ifName
	}
	sum := sha1.Sum([]byte(name))
	return InterfacePrefix + hex.EncodeToString(sum[:])[:11]
}
