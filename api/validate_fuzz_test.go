// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"net/netip"
	"slices"
	"testing"
)

// FuzzValidate checks objects as a datastore may hold them, which need not have come through Decode:
// nothing panics, and the addresses of what is valid parse.
func FuzzValidate(f *testing.F) {
	for kind, text := range map[Kind]string{
		KindIPPool:                  `{"metadata":{"name":"p"},"spec":{"cidr":"172.17.0.0/16","blockSize":24}}`,
		KindNode:                    `{"metadata":{"name":"a"},"spec":{"bgp":{"ipv4Address":"192.0.2.1/24","asNumber":64512}}}`,
		KindBGPPeer:                 `{"metadata":{"name":"p"},"spec":{"peerIP":"192.0.2.1:1179","asNumber":64512,"keepAliveTime":"20s","maxRestartTime":"2m"}}`,
		KindBGPConfiguration:        `{"metadata":{"name":"default"},"spec":{"asNumber":64512,"listenPort":179,"nodeMeshMaxRestartTime":"4095s"}}`,
		KindWorkloadEndpoint:        `{"metadata":{"name":"e","namespace":"ns"},"spec":{"node":"a","ipNetworks":["172.17.0.1/32"],"interfaceName":"cali0"}}`,
		KindIPReservation:           `{"metadata":{"name":"r"},"spec":{"reservedCIDRs":["172.17.0.0/30","::/0"]}}`,
		KindBlockAffinity:           `{"metadata":{"name":"a-172-17-8-0-24"},"spec":{"node":"a","cidr":"172.17.8.0/24","state":"confirmed"}}`,
		KindIPAMBlock:               `{"metadata":{"name":"172-17-8-0-30"},"spec":{"cidr":"172.17.8.0/30","affinity":"host:a","allocations":[null,0],"attributes":[{}]}}`,
		KindFelixConfiguration:      `{"metadata":{"name":"default"},"spec":{"routeRefreshInterval":"90s","logPrefix":"x","failsafeInboundHostPorts":[{"port":22,"net":"fd00::/64"}]}}`,
		KindIPAMConfiguration:       `{"metadata":{"name":"default"},"spec":{"strictAffinity":true}}`,
		KindClusterInformation:      `{"metadata":{"name":"default"},"spec":{"datastoreReady":false}}`,
		KindKubernetesNetworkPolicy: `{"metadata":{"name":"n","namespace":"ns"},"spec":{"podSelector":{"matchExpressions":[{"key":"a","operator":"In","values":["b"]}]},"ingress":[{"from":[{"ipBlock":{"cidr":"10.0.0.0/8","except":["10.1.0.0/16"]}}],"ports":[{"port":80,"endPort":90}]}]}}`,
		KindClusterNetworkPolicy:    `{"metadata":{"name":"n"},"spec":{"tier":"Admin","priority":1,"subject":{"namespaces":{}},"egress":[{"action":"Deny","to":[{"networks":["::/0"]}],"protocols":[{"tcp":{"destinationPort":{"range":{"start":1,"end":2}}}}]}]}}`,
		KindEndpointSlice:           `{"metadata":{"name":"s","namespace":"ns","labels":{"kubernetes.io/service-name":"web"}},"addressType":"IPv6","endpoints":[{"addresses":["fd00::1"]}],"ports":[{"name":"a","port":80},{"protocol":"SCTP"}]}`,
		Kind("IPPool-broken"):       `{"metadata":{"name":"p"},"spec":{"cidr":"172.17.0.0/33","blockSize":-1}}`,
		Kind("IPAMBlock-wrong"):     `{"metadata":{"name":"b"},"spec":{"cidr":"0.0.0.0/0","allocations":[-1,99]}}`,
		Kind("IPPool-6"):            `{"metadata":{"name":"p"},"spec":{"cidr":"fd00::/48","blockSize":122}}`,
		Kind("Node-6"):              `{"metadata":{"name":"a"},"spec":{"bgp":{"ipv4Address":"192.0.2.1/24","ipv6Address":"fd00::1/64"}}}`,
		Kind("BGPPeer-6"):           `{"metadata":{"name":"p"},"spec":{"peerIP":"[fd00::1%eth0]:179","asNumber":64512}}`,
		Kind("IPAMBlock-6"):         `{"metadata":{"name":"fd00---127"},"spec":{"cidr":"fd00::/127","affinity":"host:a","allocations":[null,0],"attributes":[{}]}}`,
	} {
		f.Add(string(kind), []byte(text))
	}
	for kind, text := range policySeeds() {
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
			if err == nil {
				checkNets(t, obj)
			}
			snap := Snapshot{InSync: true}.With(obj).With(other)
			_ = ValidateChange(nil, obj, snap)
			_ = ValidateChange(other, obj, snap)
			_ = ValidateChange(obj, obj, snap)
		}
	})
}

func policySeeds() map[Kind]string {
	return map[Kind]string{
		KindTier:    `{"metadata":{"name":"kube-admin"},"spec":{"order":1000,"defaultAction":"Pass"}}`,
		KindProfile: `{"metadata":{"name":"kns.shop"},"spec":{"ingress":[{"action":"Allow"}],"labelsToApply":{"pcns.team":"a"}}}`,
		KindNetworkPolicy: `{"metadata":{"name":"p","namespace":"shop"},"spec":{"tier":"t","order":1.5,"selector":"a == 'b'","types":["Ingress"],
			"ingress":[{"action":"Allow","ipVersion":4,"protocol":"TCP","source":{"nets":["10.0.0.0/8","10.0.0.1"],"notNets":["192.0.2.1"],"selector":"all()","namespaceSelector":"global()"},
			"destination":{"ports":[80,"8000:8010","http"],"notPorts":[81]},"metadata":{"annotations":{"a":"b c"}}},
			{"action":"Pass","protocol":1,"icmp":{"type":8,"code":0},"notICMP":{"type":0}},{"action":"Log","source":{"services":{"name":"s"}}}]}}`,
		KindGlobalNetworkPolicy:       `{"metadata":{"name":"p"},"spec":{"doNotTrack":true,"preDNAT":true,"applyOnForward":true,"namespaceSelector":"has(a)","egress":[{"action":"Deny","destination":{"serviceAccounts":{"names":["a"],"selector":"b == 'c'"}}}]}}`,
		KindStagedNetworkPolicy:       `{"metadata":{"name":"p"},"spec":{"stagedAction":"Delete"}}`,
		KindStagedGlobalNetworkPolicy: `{"metadata":{"name":"p"},"spec":{"stagedAction":"Set","preDNAT":true,"applyOnForward":true,"performanceHints":["AssumeNeededOnEveryNode"]}}`,
		KindNetworkSet:                `{"metadata":{"name":"s","labels":{"a/b":"c"}},"spec":{"nets":["10.0.0.1","fd00::/64"]}}`,
		KindGlobalNetworkSet:          `{"metadata":{"name":"s"},"spec":{"nets":["0.0.0.0/0","::/0"]}}`,
		KindHostEndpoint:              `{"metadata":{"name":"h"},"spec":{"node":"a","interfaceName":"*","expectedIPs":["192.0.2.1","fd00::1"],"profiles":["p"],"ports":[{"name":"http","protocol":"TCP","port":80}]}}`,
		Kind("WorkloadEndpoint-policy"): `{"metadata":{"name":"e","namespace":"ns","labels":{"projectcalico.org/namespace":"ns","a":"b"}},
			"spec":{"node":"a","serviceAccountName":"sa","profiles":["kns.ns"],"ports":[{"name":"http","protocol":"TCP","port":80}]}}`,
	}
}

// checkNets checks that what others take for addresses and prefixes is some, with no zone.
func checkNets(t *testing.T, obj Object) {
	var nets []string
	rules := func(lists ...[]Rule) {
		for _, list := range lists {
			for _, r := range list {
				nets = slices.Concat(nets, r.Source.Nets, r.Source.NotNets, r.Destination.Nets, r.Destination.NotNets)
			}
		}
	}
	switch o := obj.(type) {
	case *NetworkPolicy:
		rules(o.Spec.Ingress, o.Spec.Egress)
	case *GlobalNetworkPolicy:
		rules(o.Spec.Ingress, o.Spec.Egress)
	case *Profile:
		rules(o.Spec.Ingress, o.Spec.Egress)
	case *NetworkSet:
		nets = o.Spec.Nets
	case *GlobalNetworkSet:
		nets = o.Spec.Nets
	case *HostEndpoint:
		nets = o.Spec.ExpectedIPs
	}
	for _, text := range nets {
		addr, addrErr := netip.ParseAddr(text)
		if p, err := netip.ParsePrefix(text); err == nil && p == p.Masked() {
			continue
		}
		if addrErr != nil || addr.Zone() != "" || addr.Is4In6() {
			t.Errorf("%s is valid with %q", obj.Key(), text)
		}
	}
}
