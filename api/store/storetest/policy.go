// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"korat/api"
)

// The two kinds whose manifests are called NetworkPolicy, of one name, with everything that has a JSON form of its own:
// ports, protocols, and empty selectors, which are not the same as none.
const policies = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchExpressions: [{key: role, operator: Exists}]}
  ingress:
  - from: [{namespaceSelector: {}}, {podSelector: {}}, {ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}]
    ports: [{port: http}, {port: 8000, endPort: 8010, protocol: UDP}, {protocol: SCTP}]
  egress: [{}]
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  order: 12.5
  ingress:
  - {action: Allow, protocol: tcp, destination: {ports: [80, "8000:8010", http], notPorts: [8005]}}
  - {action: Deny, notProtocol: 47, icmp: {type: 8, code: 0}}
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: web}
spec:
  tier: Admin
  priority: 0
  subject: {pods: {namespaceSelector: {}, podSelector: {}}}
  egress: [{action: Deny, to: [{namespaces: {}}, {networks: ["::/0"]}], protocols: [{tcp: {destinationPort: {range: {start: 1, end: 2}}}}]}]
`

// testPolicies stores them and gets them back, each with its manifest's apiVersion and kind.
func testPolicies(t *testing.T, b Backend) {
	objs, err := api.Decode([]byte(policies))
	if err != nil {
		t.Fatal(err)
	}
	for _, obj := range objs {
		api.Default(obj)
		create(t, b.Store, obj)
	}
	for _, want := range objs {
		have, err := b.Store.Get(testContext(t), want.Key())
		if err != nil {
			t.Fatal(err)
		}
		have = have.DeepCopyObject()
		have.SetUID("")
		have.SetResourceVersion("")
		have.SetCreationTimestamp(want.GetCreationTimestamp())
		if diff := cmp.Diff(want, have); diff != "" {
			t.Errorf("%s is not what was stored (-):\n%s", want.Key(), diff)
		}
		if objs, _, err := b.Store.List(testContext(t), want.Key().Kind); err != nil || len(objs) != 1 {
			t.Errorf("list %s: %d objects (%v), want 1", want.Key().Kind, len(objs), err)
		}
	}
}
