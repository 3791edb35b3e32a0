// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"testing"
)

func TestLifelines(t *testing.T) {
	for _, c := range []struct {
		d    datastoreSettings
		want string
	}{
		{datastoreSettings{kind: "embedded", embeddedListen: "127.0.0.1:2379"}, "[{invalid IP 0 2379}]"},
		{datastoreSettings{kind: "embedded", embeddedListen: "[fd00::1]:12379"}, "[{invalid IP 0 12379}]"},
		{
			datastoreSettings{kind: "etcd", endpoints: []string{"https://192.0.2.1:2379", "https://[fd00::1]:12379", "https://etcd.example", "http://[::ffff:192.0.2.2]"}},
			"[{192.0.2.1 2379 0} {fd00::1 12379 0} {invalid IP 443 0} {192.0.2.2 80 0}]",
		},
		// What makes no sense the client refuses.
		{datastoreSettings{kind: "etcd", endpoints: []string{"https://192.0.2.1:port", "etcd:99999"}}, "[{invalid IP 0 0}]"},
	} {
		if have := fmt.Sprint(c.d.lifelines()); have != c.want {
			t.Errorf("%+v: have %s, want %s", c.d, have, c.want)
		}
	}
}
