// SPDX-License-Identifier: Apache-2.0

package main

import (
	"maps"
	"reflect"
	"strconv"
	"testing"

	"korat/api"
	"korat/policy"
)

// What an agent keeps of another node's pod is all that policies know pods by, and less than there is.
func TestDigest(t *testing.T) {
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
	if newDigest("b").keep(whole) != api.Object(whole) {
		t.Error("of a node's own pod nothing is left out")
	}
	brief := newDigest("a").keep(whole).(*api.WorkloadEndpoint)
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

// Pods with the same labels share them, whatever came in between; others have their own.
func TestDigestShares(t *testing.T) {
	pod := func(labels map[string]string) *api.WorkloadEndpoint {
		w := &api.WorkloadEndpoint{Spec: api.WorkloadEndpointSpec{Node: "b"}}
		w.Labels = labels
		return w
	}
	same := func(a, b map[string]string) bool { return reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer() }
	d := newDigest("a")
	kept := func(labels map[string]string) map[string]string {
		have := d.keep(pod(labels)).(*api.WorkloadEndpoint).Labels
		if !maps.Equal(have, labels) {
			t.Errorf("have %v, want %v", have, labels)
		}
		return have
	}
	web := kept(map[string]string{"app": "web", "tier": "front"})
	if same(web, kept(map[string]string{"app": "web", "tier": "back"})) || same(web, kept(map[string]string{"app": "web"})) {
		t.Error("others have the same map")
	}
	if !same(web, kept(map[string]string{"tier": "front", "app": "web"})) {
		t.Error("the same labels are another map")
	}
	for i := range maxLabels {
		kept(map[string]string{"own": strconv.Itoa(i)})
	}
	if len(d.labels) > maxLabels {
		t.Errorf("%d are remembered", len(d.labels))
	}
	kept(nil)
}
