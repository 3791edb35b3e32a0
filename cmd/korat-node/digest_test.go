// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"maps"
	"reflect"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"korat/api"
	"korat/policy"
)

// value is how a datastore has the object of a manifest.
func value(t *testing.T, manifest string) (api.Object, []byte) {
	t.Helper()
	objs, err := api.Decode([]byte(manifest))
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(objs[0])
	if err != nil {
		t.Fatal(err)
	}
	return objs[0], text
}

func restored(t *testing.T, d *digest, key api.Key, value []byte) api.Object {
	t.Helper()
	obj, err := d.restore(key, value)
	if err != nil {
		t.Fatal(err)
	}
	return obj
}

// What an agent keeps of another node's pod is all that policies know pods by, and less than there is.
func TestDigest(t *testing.T) {
	obj, text := value(t, `
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {name: b-k8s-web-eth0, namespace: ns, uid: u, labels: {app: web}, annotations: {note: long}}
spec:
  {orchestrator: k8s, workload: web, pod: web, node: b, containerID: c, endpoint: eth0, interfaceName: cali0, mac: "02:00:00:00:00:01",
   ipNetworks: [10.0.0.1/32, "fd00::1/128"], serviceAccountName: robot, profiles: [kns.ns], ports: [{name: http, protocol: TCP, port: 80}]}
`)
	whole := obj.(*api.WorkloadEndpoint)
	if diff := cmp.Diff(obj, restored(t, newDigest("b"), obj.Key(), text)); diff != "" {
		t.Errorf("of a node's own pod nothing is left out: %s", diff)
	}
	brief := restored(t, newDigest("a"), obj.Key(), text).(*api.WorkloadEndpoint)
	if brief.Key() != whole.Key() || brief.UID != "u" || brief.Spec.Node != "b" {
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

// What is not understood, or is under another key, is what api.Restore makes of it.
func TestDigestUnreadable(t *testing.T) {
	d := newDigest("a")
	for _, kind := range []api.Kind{api.KindWorkloadEndpoint, api.KindIPAMBlock, api.KindNode} {
		for _, text := range []string{
			``, `null`, `[]`, `{}`, `{"metadata":{"name":"other"}}`, `{"metadata":{"name":"x","namespace":"other"}}`, `{"metadata":{"name":"x"},"spec":{"node":"b"}`,
			`{"metadata":{"name":"x","namespace":"ns"},"spec":{"node":5}}`, `{"metadata":{"name":"x"},"spec":{"affinity":"host:b","cidr":5}}`,
			`{"metadata":{"name":"x"},"spec":{"cidr":"10.0.0.0/30"}}`,
		} {
			key := api.Key{Kind: kind, Name: "x"}
			if info, _ := kind.Info(); info.Namespaced {
				key.Namespace = "ns"
			}
			want, wantErr := api.Restore(key, []byte(text))
			have, err := d.restore(key, []byte(text))
			if !reflect.DeepEqual(have, want) || (err == nil) != (wantErr == nil) {
				t.Errorf("%s %s: have %v, %v; want %v, %v", kind, text, have, err, want, wantErr)
			}
		}
	}
}

// Another node's block is brief, and the node's own is whole.
func TestDigestBlock(t *testing.T) {
	obj, text := value(t, `
apiVersion: projectcalico.org/v3
kind: IPAMBlock
metadata: {name: 10-0-0-0-32}
spec: {cidr: 10.0.0.0/32, affinity: "host:b", allocations: [null], unallocated: [0], attributes: [], sequenceNumber: 7}
`)
	want := &api.IPAMBlock{Spec: api.IPAMBlockSpec{CIDR: "10.0.0.0/32", Affinity: new("host:b"), SequenceNumber: 7}}
	want.Name = "10-0-0-0-32"
	if diff := cmp.Diff(api.Object(want), restored(t, newDigest("a"), obj.Key(), text)); diff != "" {
		t.Errorf("another node's: %s", diff)
	}
	if diff := cmp.Diff(obj, restored(t, newDigest("b"), obj.Key(), text)); diff != "" {
		t.Errorf("the node's own: %s", diff)
	}
}

// Pods with the same labels share them, whatever came in between; others have their own.
func TestDigestShares(t *testing.T) {
	same := func(a, b map[string]string) bool { return reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer() }
	d := newDigest("a")
	kept := func(labels map[string]string) map[string]string {
		w := &api.WorkloadEndpoint{Spec: api.WorkloadEndpointSpec{Node: "b"}}
		w.Namespace, w.Name, w.Labels = "ns", "pod", labels
		text, err := json.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		have := restored(t, d, w.Key(), text).GetLabels()
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
