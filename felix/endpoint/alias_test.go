// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func addresses(texts ...string) []netip.Addr {
	var addrs []netip.Addr
	for _, s := range texts {
		addrs = append(addrs, netip.MustParseAddr(s))
	}
	return addrs
}

func TestAlias(t *testing.T) {
	long := strings.Repeat("x", 253)
	id := func(container string) ID { return ID{ContainerID: container, IfName: "eth0"} }
	tests := []struct {
		name  string
		alias Alias
		want  string // empty: only that it fits and is recognised
	}{
		{"usual", Alias{id("c1"), "default", "web-0", addresses("10.0.0.1")}, "korat default/web-0 c1/eth0 10.0.0.1"},
		{"both families", Alias{id("c1"), "default", "web-0", addresses("10.0.0.1", "fd00::1")}, "korat default/web-0 c1/eth0 10.0.0.1,fd00::1"},
		{"no address", Alias{id("c1"), "default", "web-0", nil}, "korat default/web-0 c1/eth0 "},
		{"long pod", Alias{id(strings.Repeat("c", 64)), "kube-system", long, addresses("10.0.0.1")}, ""},
		{"all long", Alias{id(long), strings.Repeat("n", 63), long, addresses("255.255.255.255", "fd00:1111:2222:3333:4444:5555:6666:7777")}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := FormatAlias(tt.alias)
			if len(text) > 255 {
				t.Errorf("%d bytes: %s", len(text), text)
			}
			if tt.want != "" && text != tt.want {
				t.Errorf("have %q, want %q", text, tt.want)
			}
			have, err := ParseAlias(text)
			if err != nil {
				t.Fatal(err)
			}
			if tt.want != "" && !reflect.DeepEqual(have, tt.alias) {
				t.Errorf("have %+v, want %+v", have, tt.alias)
			}
			if !have.Is(tt.alias.ID) || !have.Of(tt.alias.Namespace, tt.alias.Pod) {
				t.Errorf("%q is not recognised as its own", text)
			}
			other := tt.alias.ID
			other.ContainerID += "y"
			if have.Is(other) || have.Of(tt.alias.Namespace, tt.alias.Pod+"y") || have.Is(ID{ContainerID: tt.alias.ContainerID, IfName: "net1"}) {
				t.Errorf("%q is taken for another's", text)
			}
		})
	}
}

func TestParseAliasRefuses(t *testing.T) {
	for _, text := range []string{
		"", "korat", "uplink", "calico default/web c/eth0 10.0.0.1", "korat default c/eth0 10.0.0.1",
		"korat default/web c 10.0.0.1", "korat /web c/eth0 10.0.0.1", "korat default/web c/eth0 10.0.0.300",
		"korat default/web c/eth0 10.0.0.1 more",
	} {
		if a, err := ParseAlias(text); err == nil {
			t.Errorf("%q: have %+v, want an error", text, a)
		}
	}
}

func FuzzParseAlias(f *testing.F) {
	f.Add("korat default/web-0 c1/eth0 10.0.0.1,fd00::1")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := ParseAlias(text)
		if err != nil || len(text) > maxAlias {
			return
		}
		again, err := ParseAlias(FormatAlias(a))
		if err != nil || !reflect.DeepEqual(a, again) {
			t.Errorf("%q: %+v became %+v, %v", text, a, again, err)
		}
	})
}
