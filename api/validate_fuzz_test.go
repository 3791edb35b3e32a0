// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"net/netip"
	"testing"
)

// FuzzValidate checks objects as a datastore may hold them, which need not have come through Decode:
// nothing panics, and the addresses of what is valid parse.
func FuzzValidate(f *testing.F) {
	for kind, text := range map[Kind]string{
		KindIPPool:              `{"metadata":{"name":"p"},"spec":{"cidr":"172.17.0.0/16","blockSize":24}}`,
		KindNode:                `{"metadata":{"name":"a"},"spec":{"bgp":{"ipv4Address":"192.0.2.1/24","asNumber":64512}}}`,
		KindBGPPeer:             `{"metadata":{"name":"p"},"spec":{"peerIP":"192.0.2.1:1179","asNumber":64512,"keepAliveTime":"20s","maxRestartTime":"2m"}}`,
		KindBGPConfiguration:    `{"metadata":{"name":"default"},"spec":{"asNumber":64512,"listenPort":179,"nodeMeshMaxRestartTime":"4095s"}}`,
		KindWorkloadEndpoint:    `{"metadata":{"name":"e","namespace":"ns"},"spec":{"node":"a","ipNetworks":["172.17.0.1/32"],"interfaceName":"cali0"}}`,
		KindIPReservation:       `{"metadata":{"name":"r"},"spec":{"reservedCIDRs":["172.17.0.0/30","::/0"]}}`,
		KindBlockAffinity:       `{"metadata":{"name":"a-172-17-8-0-24"},"spec":{"node":"a","cidr":"172.17.8.0/24","state":"confirmed"}}`,
		KindIPAMBlock:           `{"metadata":{"name":"172-17-8-0-30"},"spec":{"cidr":"172.17.8.0/30","affinity":"host:a","allocations":[null,0],"attributes":[{}]}}`,
		KindFelixConfiguration:  `{"metadata":{"name":"default"},"spec":{"routeRefreshInterval":"90s"}}`,
		KindIPAMConfiguration:   `{"metadata":{"name":"default"},"spec":{"strictAffinity":true}}`,
		KindClusterInformation:  `{"metadata":{"name":"default"},"spec":{"datastoreReady":false}}`,
		Kind("IPPool-broken"):   `{"metadata":{"name":"p"},"spec":{"cidr":"172.17.0.0/33","blockSize":-1}}`,
		Kind("IPAMBlock-wrong"): `{"metadata":{"name":"b"},"spec":{"cidr":"0.0.0.0/0","allocations":[-1,99]}}`,
		Kind("IPPool-6"):        `{"metadata":{"name":"p"},"spec":{"cidr":"fd00::/48","blockSize":122}}`,
		Kind("Node-6"):          `{"metadata":{"name":"a"},"spec":{"bgp":{"ipv4Address":"192.0.2.1/24","ipv6Address":"fd00::1/64"}}}`,
		Kind("BGPPeer-6"):       `{"metadata":{"name":"p"},"spec":{"peerIP":"[fd00::1%eth0]:179","asNumber":64512}}`,
		Kind("IPAMBlock-6"):     `{"metadata":{"name":"fd00---127"},"spec":{"cidr":"fd00::/127","affinity":"host:a","allocations":[null,0],"attributes":[{}]}}`,
	} {
		f.Add(string(kind), []byte(text))
	}
	f.Fuzz(func(t *testing.T, kind string, data []byte) {
		for _, k := range Kinds() {
			if len(kind) < len(k) || kind[:len(k)] != string(k) {
				continue
			}
			obj, other := New(k), New(k)
			if json.Unmarshal(data, obj) != nil || json.Unmarshal(data, other) != nil {
				continue
			}
			_ = Validate(obj) // as it is, without defaults
			Default(obj)
			other.SetName("other")
			err := Validate(obj)
			if pool, ok := obj.(*IPPool); ok && err == nil {
				if _, err := netip.ParsePrefix(pool.Spec.CIDR); err != nil {
					t.Errorf("a valid pool: %v", err)
				}
			}
			snap := Snapshot{InSync: true}.With(obj).With(other)
			_ = ValidateChange(nil, obj, snap)
			_ = ValidateChange(other, obj, snap)
			_ = ValidateChange(obj, obj, snap)
		}
	})
}
