// SPDX-License-Identifier: Apache-2.0

// Package storetest is the suite that every store.Store passes, and a wrapper that injects faults.
package storetest

import (
	"context"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"korat/api"
	"korat/api/store"
)

// Backend is a store under test.
type Backend struct {
	Store store.Store
	// Compact makes every revision before the present one unavailable to Watch.
	Compact func(t *testing.T)
}

// Run runs the suite; open gives an empty store for each test.
func Run(t *testing.T, open func(t *testing.T) Backend) {
	for _, tt := range []struct {
		name string
		test func(t *testing.T, b Backend)
	}{
		{"create", testCreate},
		{"create refuses bad keys", testCreateBadKey},
		{"get absent", testGetAbsent},
		{"update", testUpdate},
		{"update conflict", testUpdateConflict},
		{"update keeps identity", testUpdateIdentity},
		{"delete", testDelete},
		{"every kind", testEveryKind},
		{"policies of one name", testPolicies},
		{"list order and revision", testList},
		{"list many", testListMany},
		{"watch sees every change once", testWatch},
		{"watch during concurrent writes", testWatchConcurrent},
		{"watch ends with its context", testWatchCancel},
		{"watch from compacted revision", testWatchCompacted},
		{"watch refuses a foreign revision", testWatchBadRevision},
		{"concurrent compare-and-swap", testConcurrentCAS},
		{"cancelled context", testCancelledContext},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, open(t)) })
	}
}

// Pool gives a new IPPool, for tests.
func Pool(name, cidr string) *api.IPPool {
	p := &api.IPPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: api.IPPoolSpec{CIDR: cidr}}
	api.Default(p)
	return p
}

// Endpoint gives a new WorkloadEndpoint, for tests.
func Endpoint(namespace, name string) *api.WorkloadEndpoint {
	w := &api.WorkloadEndpoint{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	w.Spec = api.WorkloadEndpointSpec{Node: "n", Endpoint: "eth0", IPNetworks: []string{"10.0.0.1/32"}, InterfaceName: "cali0"}
	api.Default(w)
	return w
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// create stores an object that must not exist.
func create(t *testing.T, st store.Store, obj api.Object) api.Object {
	t.Helper()
	stored, err := st.Create(testContext(t), obj)
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

func poolKey(name string) api.Key { return api.Key{Kind: api.KindIPPool, Name: name} }
