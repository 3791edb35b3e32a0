// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"strings"
	"testing"

	"korat/api"
)

// What is not understood of a policy is told; of other kinds, what a later version has added is left out.
func TestRestore(t *testing.T) {
	for _, c := range []struct {
		key   api.Key
		value string
		// want is in the reason for which the object is Unreadable, and err in the error; none of both: it is readable.
		want, err string
	}{
		{api.Key{Kind: api.KindNetworkPolicy, Namespace: "ns", Name: "p"}, `{"metadata":{"name":"p","namespace":"ns"},"spec":{"selector":"all()"}}`, "", ""},
		{api.Key{Kind: api.KindNetworkPolicy, Namespace: "ns", Name: "p"}, `{"metadata":{"name":"p","namespace":"ns"},"spec":{"unless":1}}`, `unknown field "spec.unless"`, ""},
		{api.Key{Kind: api.KindNetworkPolicy, Namespace: "ns", Name: "p"}, `{"metadata":{"name":"p","namespace":"ns"},"spec":{"order":"high"}}`, "cannot unmarshal", ""},
		{api.Key{Kind: api.KindGlobalNetworkPolicy, Name: "p"}, `{"metadata":{"name":"other"}}`, "the value is GlobalNetworkPolicy/other", ""},
		{api.Key{Kind: api.KindProfile, Name: "kns.ns"}, `no JSON`, "invalid character", ""},
		{api.Key{Kind: api.KindIPPool, Name: "p"}, `{"metadata":{"name":"p"},"spec":{"later":1}}`, "", ""},
		{api.Key{Kind: api.KindIPPool, Name: "p"}, `no JSON`, "", "invalid character"},
		{api.Key{Kind: api.KindTier, Name: "t"}, `{"metadata":{"name":"t"},"spec":{"later":1}}`, `unknown field "spec.later"`, ""},
		{api.Key{Kind: api.KindTier, Name: "t"}, `no JSON`, "invalid character", ""},
		{api.Key{Kind: api.KindNetworkSet, Namespace: "ns", Name: "s"}, `{"metadata":{"name":"s","namespace":"ns"},"spec":{"names":["a"]}}`, `unknown field "spec.names"`, ""},
		{api.Key{Kind: api.KindGlobalNetworkSet, Name: "s"}, `{"metadata":{"name":"s"},"spec":{"nets":[{}]}}`, "cannot unmarshal", ""},
		{api.Key{Kind: api.KindHostEndpoint, Name: "h"}, `{"metadata":{"name":"h"},"spec":{"later":1}}`, "", ""},
		{api.Key{Kind: api.KindHostEndpoint, Name: "h"}, `no JSON`, "invalid character", ""},
		{api.Key{Kind: api.KindWorkloadEndpoint, Namespace: "ns", Name: "w"}, `{"metadata":{"name":"w","namespace":"ns"},"spec":{"later":1}}`, "", ""},
		{api.Key{Kind: api.KindWorkloadEndpoint, Namespace: "ns", Name: "w"}, `no JSON`, "invalid character", ""},
		{api.Key{Kind: api.KindEndpointSlice, Namespace: "ns", Name: "e"}, `no JSON`, "invalid character", ""},
		{api.Key{Kind: api.KindFelixConfiguration, Name: "default"}, `no JSON`, "invalid character", ""},
	} {
		obj, err := api.Restore(c.key, []byte(c.value))
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: error %v, want %s", c.value, err, c.err)
			}
			continue
		}
		if err != nil || obj.Key() != c.key {
			t.Errorf("%s: have %v, %v", c.value, obj, err)
			continue
		}
		if have := api.Unreadable(obj); (have == "") != (c.want == "") || !strings.Contains(have, c.want) {
			t.Errorf("%s: unreadable %q, want %q", c.value, have, c.want)
		}
		stored, err := api.Stored(obj)
		if (err == nil) != (c.want == "") {
			t.Errorf("%s: stored as %v, %v", c.value, stored, err)
		}
	}
}

// What was read last counts of an object that rules pick, and of none that forbids by itself.
func TestHold(t *testing.T) {
	restore := func(key api.Key, value, revision string) api.Object {
		t.Helper()
		obj, err := api.Restore(key, []byte(value))
		if err != nil {
			t.Fatal(err)
		}
		obj.SetResourceVersion(revision)
		return obj
	}
	key := api.Key{Kind: api.KindGlobalNetworkSet, Name: "s"}
	whole := restore(key, `{"metadata":{"name":"s","labels":{"a":"b"}},"spec":{"nets":["10.0.0.1"]}}`, "1")
	part := restore(key, `{"metadata":{"name":"s"},"spec":{"nets":["10.0.0.2"],"later":1}}`, "2")
	nothing := restore(key, `{`, "3")
	if !api.Hollow(nothing) || api.Hollow(part) || api.Hollow(whole) {
		t.Fatal("hollow is only what nothing is known of")
	}
	held := api.Hold(whole, nothing)
	for _, kept := range []api.Object{held, api.Hold(held, nothing)} {
		set := kept.(*api.GlobalNetworkSet)
		if !api.Held(kept) || api.Hollow(kept) || len(set.Spec.Nets) != 1 || set.Labels["a"] != "b" || set.ResourceVersion != "3" ||
			api.Unreadable(kept) != api.Unreadable(nothing) {
			t.Errorf("held: %v", kept)
		}
		if _, err := api.Stored(kept); err == nil {
			t.Error("what is held can be stored")
		}
	}
	if api.Unreadable(whole) != "" {
		t.Error("what was read last has been changed")
	}
	for what, have := range map[string]api.Object{"of what is understood": api.Hold(whole, part), "of a part": api.Hold(part, nothing), "of nothing": api.Hold(nothing, nothing)} {
		if api.Held(have) {
			t.Errorf("%s something is held: %v", what, have)
		}
	}
	for _, kind := range []api.Kind{api.KindTier, api.KindGlobalNetworkPolicy} {
		key := api.Key{Kind: kind, Name: "p"}
		if have := api.Hold(restore(key, `{"metadata":{"name":"p"}}`, "1"), restore(key, `{`, "2")); !api.Hollow(have) {
			t.Errorf("of a %s what was read last counts: %v", kind, have)
		}
	}
}
