// SPDX-License-Identifier: Apache-2.0

package endpoint

import "testing"

// The expected names are what `printf ns.pod | sha1sum` begins with.
func TestHostInterface(t *testing.T) {
	tests := []struct{ namespace, pod, ifName, want string }{
		{"default", "nginx", "eth0", "calic440f455693"},
		{"default", "nginx", "net1", "califa8993bd678"},
		{"kube-system", "coredns-5d78c9869d-abcde", "eth0", "cali4d5f75c480c"},
	}
	for _, tt := range tests {
		if have := HostInterface(tt.namespace, tt.pod, tt.ifName); have != tt.want {
			t.Errorf("%s/%s %s: have %s, want %s", tt.namespace, tt.pod, tt.ifName, have, tt.want)
		}
	}
}
