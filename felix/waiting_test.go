// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"strings"
	"testing"

	"korat/api"
	"korat/cni-plugin/socket"
)

// hostPolicies protect an interface of this node's own.
const hostPolicies = webPolicy + `
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: uplink, labels: {host: mine}}
spec: {node: a, interfaceName: eth0, profiles: [mine]}
---
apiVersion: projectcalico.org/v3
kind: Profile
metadata: {name: mine}
spec: {labelsToApply: {zone: inner}, ingress: [{action: Allow}], egress: [{action: Allow}]}
---
apiVersion: projectcalico.org/v3
kind: FelixConfiguration
metadata: {name: default}
spec: {defaultEndpointToHostAction: Drop}
`

// An agent that starts, and cannot read what protects its host, leaves everything as the one before has made it, and says so;
// pods that come wait. One that runs goes on with what it has read.
func TestStartWithUnreadableHost(t *testing.T) {
	for _, key := range []api.Key{
		{Kind: api.KindHostEndpoint, Name: "uplink"},
		{Kind: api.KindProfile, Name: "mine"},
		{Kind: api.KindFelixConfiguration, Name: api.DefaultName},
	} {
		t.Run(key.String(), func(t *testing.T) {
			w, record := newWorld(t), mapJournal{}
			data := stillWith(t, hostPolicies)
			agent := w.idle(data, record)
			w.attached(agent, "web", "web", "10.0.0.1")
			mustPass(t, agent)
			mustPass(t, agent)
			before := w.filter()
			if !strings.Contains(before, "cali-from-host-endpoint") || !strings.Contains(before, "jump cali-pi-np/ns/web") {
				t.Fatalf("the test tests nothing:\n%s", before)
			}
			w.writes()
			last, _ := data.snap.Get(key)
			broken, err := api.Restore(key, []byte("{"))
			if err != nil {
				t.Fatal(err)
			}
			data.set(api.Hold(last, broken))
			mustPass(t, agent)
			problems := strings.Join(agent.report.status().Problems, "\n")
			if !strings.Contains(problems, key.String()+": object") || !strings.Contains(problems, "as this agent runs") || len(agent.report.notReady()) > 0 && key.Kind != api.KindProfile {
				t.Errorf("held: problems %s; not ready: %v", problems, agent.report.notReady())
			}
			if key.Kind != api.KindProfile && w.filter() != before { // the rules of a profile deny
				t.Errorf("held: %s", w.filter())
			}
			before = w.filter()
			w.writes()

			next := &still{snap: data.snap.With(broken)}
			for _, kind := range api.Kinds() {
				for obj := range next.snap.Objects(kind) {
					next.note(obj.Key())
				}
			}
			agent = w.idle(next, record)
			agent.world.start.done = false
			mustPass(t, agent)
			answer := make(chan socket.Reply, 1)
			agent.queue = append(agent.queue, call{ctx: neverDone{}, req: socket.Request{Verb: socket.VerbStatus}, reply: answer})
			mustPass(t, agent)
			if text := w.writes(); text != "" || w.filter() != before {
				t.Errorf("started: written:\n%s", text)
			}
			if have := strings.Join(agent.report.notReady(), "; "); !strings.Contains(have, key.String()+": object") || !strings.Contains(have, "is not understood whole") {
				t.Errorf("started: not ready: %s", have)
			}
			if reply := <-answer; reply.Error == nil || !strings.Contains(reply.Error.Details, key.String()) {
				t.Errorf("STATUS: %+v", reply)
			}
			next.set(last)
			mustPass(t, agent)
			if have := strings.Join(agent.report.notReady(), "; "); strings.Contains(have, key.String()) || !agent.world.start.done {
				t.Errorf("readable again: not ready: %s", have)
			}
		})
	}
}
