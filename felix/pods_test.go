// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"testing"
	"time"

	"korat/felix/endpoint"
)

// A crash in the middle of an ADD leaves two attachments of one pod. Policies see one, and always the same.
func TestPoliciesSeeOneAttachmentOfAPod(t *testing.T) {
	attached := func(container string, ready bool, since int64) endpoint.Endpoint {
		return endpoint.Endpoint{
			ID: endpoint.ID{ContainerID: container, IfName: "eth0"}, Namespace: "ns", Pod: "web", Interface: "cali1",
			Ready: ready, Since: time.Unix(since, 0),
		}
	}
	for _, c := range []struct {
		name, want string
		eps        []endpoint.Endpoint
	}{
		{"the one that is reached", "old", []endpoint.Endpoint{attached("old", true, 1), attached("new", false, 2)}},
		{"the later one", "new", []endpoint.Endpoint{attached("old", false, 1), attached("new", false, 2)}},
		{"of one moment", "b", []endpoint.Endpoint{attached("a", false, 1), attached("b", false, 1)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			all, p := map[endpoint.ID]endpoint.Endpoint{}, pods{}
			for _, ep := range c.eps {
				all[ep.ID] = ep
			}
			first, _ := p.update("a", all)
			for range 20 {
				now, gone := p.update("a", all)
				if len(now) != 1 || now[0] != first[0] || now[0].Spec.ContainerID != c.want || len(gone) > 0 {
					t.Fatalf("have %v", now)
				}
			}
		})
	}
}
