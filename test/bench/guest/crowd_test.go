// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"testing"
	"time"

	"korat/api"
)

// TestCrowd holds the simulated cluster against the rules for objects that users write.
func TestCrowd(t *testing.T) {
	c := crowd{Crowd{Nodes: 300, PodsPerNode: 3}, time.Now()}
	seen := map[api.Key]bool{}
	count := map[api.Kind]int{}
	for obj, err := range c.objects() {
		if err != nil {
			t.Fatal(err)
		}
		if err := api.Validate(obj); err != nil {
			t.Error(err)
		}
		if seen[obj.Key()] {
			t.Errorf("%s comes twice", obj.Key())
		}
		seen[obj.Key()] = true
		count[obj.Key().Kind]++
	}
	for kind, want := range map[api.Kind]int{
		api.KindNode: 300, api.KindIPAMBlock: 300, api.KindBlockAffinity: 300, api.KindWorkloadEndpoint: 900,
	} {
		if count[kind] != want {
			t.Errorf("%s: want %d, have %d", kind, want, count[kind])
		}
	}
	for _, kind := range []api.Kind{api.KindWorkloadEndpoint, api.KindIPAMBlock} {
		obj, err := c.changed(kind, 7)
		if err != nil {
			t.Fatal(err)
		}
		if err := api.Validate(obj); err != nil {
			t.Error(err)
		}
		if !seen[obj.Key()] {
			t.Errorf("%s is changed and was not there", obj.Key())
		}
	}
	if _, err := c.changed(api.KindNode, 7); err == nil {
		t.Error("a change that is not simulated: no error")
	}
}
