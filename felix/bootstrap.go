// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/cenkalti/backoff/v5"
	"k8s.io/apimachinery/pkg/util/uuid"

	"korat/api"
	"korat/api/store"
)

// DefaultPoolName is what the pool that the agent creates is called, as Calico calls it.
const DefaultPoolName = "default-ipv4-ippool"

// Bootstrap writes, once at the agent's start, what a new cluster needs.
type Bootstrap struct {
	// Pool is the default pool's CIDR and BlockSize its blocks' length; an invalid Pool means none.
	Pool      netip.Prefix
	BlockSize int
	// Version goes into a new ClusterInformation.
	Version string
}

// bootstrap creates what a new cluster needs, but no pool that takes a range from hosts.
func (a *Agent) bootstrap(ctx context.Context) {
	b := a.Bootstrap
	if err := b.refused(a.world.snap, a.memos.subnets.all.value); err != nil {
		a.Log.Error("default pool not created", "error", err)
		a.world.poolErr, b.Pool = err, netip.Prefix{}
	}
	go b.Run(ctx, a.Store, a.world.snap, a.Log)
}

// Run creates the default pool if there is no pool at all, and ClusterInformation, and retries until
// both are there. snap must be in sync.
func (b Bootstrap) Run(ctx context.Context, st store.Writer, snap api.Snapshot, log *slog.Logger) {
	pause := backoff.NewExponentialBackOff()
	pause.MaxInterval = 15 * time.Second
	for _, obj := range b.objects(snap) {
		for {
			_, err := st.Create(ctx, obj)
			if err == nil {
				log.Info("created", "object", obj.Key().String())
			}
			if err == nil || errors.Is(err, store.ErrExists) || ctx.Err() != nil {
				break
			}
			log.Warn("bootstrap", "error", fmt.Errorf("create %s: %w", obj.Key(), err))
			select {
			case <-ctx.Done():
			case <-time.After(pause.NextBackOff()):
			}
		}
	}
}

func (b Bootstrap) objects(snap api.Snapshot) []api.Object {
	var objs []api.Object
	if snap.IPPools.Len() == 0 && b.Pool.IsValid() {
		pool := &api.IPPool{}
		pool.Name = DefaultPoolName
		pool.Spec.CIDR = b.Pool.String()
		pool.Spec.BlockSize = b.BlockSize
		objs = append(objs, pool)
	}
	if _, ok := snap.ClusterInformations.Get("default"); !ok {
		ready := true
		info := &api.ClusterInformation{}
		info.Name = "default"
		info.Spec.ClusterGUID = string(uuid.NewUUID())
		info.Spec.ClusterType = "korat"
		info.Spec.CalicoVersion = b.Version
		info.Spec.DatastoreReady = &ready
		objs = append(objs, info)
	}
	for _, obj := range objs {
		api.Default(obj)
	}
	return objs
}
