// SPDX-License-Identifier: Apache-2.0

package calc

import (
	"korat/felix/dataplane"
	"korat/felix/endpoint"
)

// Sysctls wants forwarding on the host, and for each pod's interface:
//
//   - forwarding, without which neither packets nor proxied ARP pass;
//   - proxy_arp, so that the host answers for 169.254.1.1 (and for whatever else the pod believes to be
//     on its link) wherever it has a route out of another interface;
//   - proxy_delay 0: the kernel otherwise waits up to 0.8 s, at random, before such an answer;
//   - rp_filter 1 (strict, RFC 3704): a pod sends from no address but its own. The kernel applies
//     the greater of this and conf/all.
func Sysctls(live []endpoint.Endpoint) map[string]dataplane.SysctlValue {
	sysctls := map[string]dataplane.SysctlValue{"net/ipv4/ip_forward": "1"}
	for _, ep := range live {
		conf := "net/ipv4/conf/" + ep.Interface + "/"
		sysctls[conf+"forwarding"] = "1"
		sysctls[conf+"proxy_arp"] = "1"
		sysctls[conf+"rp_filter"] = "1"
		sysctls["net/ipv4/neigh/"+ep.Interface+"/proxy_delay"] = "0"
	}
	return sysctls
}
