// SPDX-License-Identifier: Apache-2.0

package main

import (
	"reflect"
	"testing"

	"korat/api"
	"korat/policy"
)

// What an agent keeps of another node's pod is all that policies know pods by, and less than there is.
func TestConcise(t *testing.T) {
	objs, err := api.Decode([]byte(`
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {name: b-k8s-web-eth0, namespace: ns, resourceVersion: "7", uid: u, labels: {app: web}, annotations: {note: long}}
spec:
  {orchestrator: k8s, workload: web, pod: web, node: b, containerID: c, endpoint: eth0, interfaceName: cali0, mac: "02:00:00:00:00:01",
   ipNetworks: [10.0.0.1/32, "fd00::1/128"], serviceAccountName: robot, profiles: [kns.ns], ports: [{name: http, protocol: TCP, port: 80}]}
`))
	if err != nil {
		t.Fatal(err)
	}
	whole := objs[0].(*api.WorkloadEndpoint)
	if concise("b")(whole) != api.Object(whole) {
		t.Error("of a node's own pod nothing is left out")
	}
	brief := concise("a")(whole).(*api.WorkloadEndpoint)
	if brief.Key() != whole.Key() || brief.ResourceVersion != "7" || brief.UID != "u" || brief.Spec.Node != "b" {
		t.Errorf("not to be told: %+v", brief)
	}
	if brief.Spec.ContainerID+brief.Spec.MAC+brief.Spec.InterfaceName != "" || brief.Annotations != nil {
		t.Errorf("kept for nobody: %+v", brief)
	}
	want, err1 := policy.ItemOf(whole)
	have, err2 := policy.ItemOf(brief)
	if err1 != nil || err2 != nil || !reflect.DeepEqual(have, want) || !reflect.DeepEqual(policy.Profiles(brief), policy.Profiles(whole)) {
		t.Errorf("have %+v, %v; want %+v, %v", have, err2, want, err1)
	}
}
