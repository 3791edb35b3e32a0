// SPDX-License-Identifier: Apache-2.0

package calc

import (
	"slices"
	"strings"
	"testing"

	"korat/api"
)

func podText(node, name, container, address, app string) string {
	return "---\napiVersion: projectcalico.org/v3\nkind: WorkloadEndpoint\n" +
		"metadata: {name: " + api.WorkloadEndpointName(node, "k8s", name, "eth0") + ", namespace: ns, labels: {app: " + app + "}}\n" +
		"spec: {orchestrator: k8s, workload: " + name + ", pod: " + name + ", node: " + node + ", containerID: " + container +
		", endpoint: eth0, interfaceName: cali" + name + ", ipNetworks: [" + address + "/32]}\n"
}

func (w *told) pod(name, container, address, app string) *api.WorkloadEndpoint {
	w.Helper()
	objs, err := api.Decode([]byte(podText("a", name, container, address, app)))
	if err != nil {
		w.Fatal(err)
	}
	return objs[0].(*api.WorkloadEndpoint)
}

// members gives who is in the sets, as of now.
func (w *told) members() string {
	filter := w.Update()
	var all []string
	for key := range filter.Sets.Sets() {
		for m := range filter.Sets.Members(key) {
			all = append(all, m.String())
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// The record says which pods this node has, whatever the datastore still says or says already: the address of one that is
// gone may be another's by now. What is said of pods that are there counts, and of other nodes' pods.
func TestOwnPodsAreThoseOfTheRecord(t *testing.T) {
	w := newTold(t, `
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: web, namespace: ns}
spec:
  selector: app == 'web'
  ingress: [{action: Allow, source: {selector: app == 'client'}}]
`)
	want := func(what, members string) {
		t.Helper()
		if have := w.members(); have != members {
			t.Errorf("%s: have %q, want %q", what, have, members)
		}
	}
	web, client := w.pod("web", "c1", "10.0.0.1", "web"), w.pod("client", "c2", "10.0.0.2", "client")
	w.apply(podText("a", "old", "c0", "10.0.0.9", "client") + podText("b", "far", "c9", "10.0.1.1", "client"))
	w.Own(w.snap, []*api.WorkloadEndpoint{web, client})
	want("one of this node's, and one of another's", "10.0.0.2/32 10.0.1.1/32")
	w.apply(podText("a", "client", "c2", "10.0.0.2", "other"))
	want("labelled by somebody", "10.0.1.1/32")
	w.apply(podText("a", "client", "c2", "10.0.0.2", "client"))
	want("labelled again", "10.0.0.2/32 10.0.1.1/32")
	w.Own(w.snap, []*api.WorkloadEndpoint{web})
	want("gone", "10.0.1.1/32")
	w.apply(podText("a", "client", "c2", "10.0.0.2", "client"))
	want("written once more", "10.0.1.1/32")
	w.Own(w.snap, []*api.WorkloadEndpoint{web, w.pod("client", "c3", "10.0.0.3", "other")})
	want("another of its name", "10.0.1.1/32")
	w.remove(client.Key())
	want("known to the record alone", "10.0.1.1/32")
}
