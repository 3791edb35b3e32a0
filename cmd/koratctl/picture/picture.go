// SPDX-License-Identifier: Apache-2.0

// Package picture reads the datastore once, into the Snapshot that agents get by watching it.
package picture

import (
	"context"

	"korat/api"
	"korat/api/store"
)

// Read lists the kinds. The Snapshot is in sync as far as they go.
func Read(ctx context.Context, st store.Reader, kinds ...api.Kind) (api.Snapshot, error) {
	var snap api.Snapshot
	for _, kind := range kinds {
		objs, _, err := st.List(ctx, kind)
		if err != nil {
			return api.Snapshot{}, err
		}
		for _, obj := range objs {
			snap = snap.With(obj)
		}
	}
	snap.InSync = true
	return snap, nil
}
