// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"
	"k8s.io/apimachinery/pkg/util/uuid"

	"korat/api"
	"korat/api/store"
	"korat/ipam"
)

// The names of the pools that the agent creates, as Calico calls them.
const (
	DefaultPoolName     = "default-ipv4-ippool"
	DefaultPoolNameIPv6 = "default-ipv6-ippool"
)

// Bootstrap writes, once at the agent's start, what a new cluster needs.
type Bootstrap struct {
	// IPv4 and IPv6 are the default pools.
	IPv4, IPv6 DefaultPool
	// Version goes into a new ClusterInformation.
	Version string
}

// DefaultPool is the pool that is created where there is none of its family. The zero DefaultPool stands for none.
type DefaultPool struct {
	CIDR netip.Prefix
	// Derived takes instead, for IPv6, the range that belongs to the cluster by its ClusterInformation's GUID:
	// every agent computes the same.
	Derived bool
	// BlockSize is the prefix length of its blocks.
	BlockSize int
}

// of gives the default pool of a family.
func (b Bootstrap) of(f api.Family) DefaultPool {
	if f == api.IPv4 {
		return b.IPv4
	}
	return b.IPv6
}

// beginning is what a bootstrap starts from.
type beginning struct {
	// info is what the datastore has, or what it is to get.
	info  *api.ClusterInformation
	pools api.Table[*api.IPPool]
	// taken are the ranges of hosts.
	taken []ipam.Obstacle
}

// bootstrap creates what a new cluster needs, but no pool that takes a range from hosts.
func (a *Agent) bootstrap(ctx context.Context) {
	from := beginning{pools: a.world.snap.IPPools, taken: a.memos.subnets.all.value}
	info, exists := a.world.snap.ClusterInformations.Get(api.DefaultName)
	if from.info = info; !exists {
		from.info = a.Bootstrap.information()
	}
	for _, f := range api.Families() {
		pool, err := a.Bootstrap.pool(f, from)
		if *a.report.poolErr.of(f) = err; pool != nil {
			a.world.start.poolless = append(a.world.start.poolless, f)
		}
	}
	go a.Bootstrap.run(ctx, a.Store, from, a.Log)
}

// poolsToCome gives the families of which a default pool is being created that no Snapshot has shown yet: there will be
// addresses, then.
func (a *Agent) poolsToCome() []api.Family {
	s := &a.world.start
	s.poolless = slices.DeleteFunc(s.poolless, func(f api.Family) bool { return hasPool(a.world.snap.IPPools, f) })
	return s.poolless
}

// run creates ClusterInformation, and a default pool of each family that there is no pool of, and retries
// until they are there.
func (b Bootstrap) run(ctx context.Context, st store.Store, from beginning, log *slog.Logger) {
	if from.info.ResourceVersion == "" {
		// Another agent may have been first.
		if stored, ok := create(ctx, st, from.info, log).(*api.ClusterInformation); ok {
			from.info = stored
		}
	}
	for _, f := range api.Families() {
		pool, err := b.pool(f, from)
		if err != nil {
			log.Error("default pool not created", "family", f.String(), "error", err)
		}
		if pool != nil {
			create(ctx, st, pool, log)
		}
	}
}

// create makes an object and gives what the datastore has then: it, or the one that was there; nil once ctx is done.
func create(ctx context.Context, st store.Store, obj api.Object, log *slog.Logger) api.Object {
	pause := backoff.NewExponentialBackOff()
	pause.MaxInterval = 15 * time.Second
	for {
		stored, err := st.Create(ctx, obj)
		if err == nil {
			log.Info("created", "object", obj.Key().String())
			return stored
		}
		if errors.Is(err, store.ErrExists) {
			if stored, err = st.Get(ctx, obj.Key()); err == nil {
				return stored
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		log.Warn("bootstrap", "error", fmt.Errorf("create %s: %w", obj.Key(), err))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause.NextBackOff()):
		}
	}
}

// information gives a new cluster's.
func (b Bootstrap) information() *api.ClusterInformation {
	info := &api.ClusterInformation{}
	info.Name = api.DefaultName
	info.Spec.ClusterGUID = string(uuid.NewUUID())
	info.Spec.ClusterType = "korat"
	info.Spec.CalicoVersion = b.Version
	api.Default(info)
	return info
}

// pool gives the family's default pool, nil if none is to be created. No pool can have a range of hosts.
func (b Bootstrap) pool(f api.Family, from beginning) (*api.IPPool, error) {
	want := b.of(f)
	if !want.CIDR.IsValid() && !want.Derived || hasPool(from.pools, f) {
		return nil, nil
	}
	cidr := want.CIDR
	if !cidr.IsValid() {
		guid := from.info.Spec.ClusterGUID
		if guid == "" {
			return nil, fmt.Errorf("%s has no spec.clusterGUID to derive a range of the cluster's own from: start with --default-pool6-cidr, or create an IPPool", from.info.Key())
		}
		cidr = localRange(guid)
	}
	for _, o := range from.taken {
		if o.Range.Overlaps(cidr) {
			return nil, fmt.Errorf("%s overlaps %s: start with another %s, or create an IPPool with a range that no host has", cidr, o, poolFlag(f))
		}
	}
	pool := &api.IPPool{}
	pool.Name = poolName(f)
	pool.Spec.CIDR, pool.Spec.BlockSize = cidr.String(), want.BlockSize
	api.Default(pool)
	return pool, nil
}

func poolName(f api.Family) string {
	if f == api.IPv4 {
		return DefaultPoolName
	}
	return DefaultPoolNameIPv6
}

// poolFlag names the setting of the family's default pool.
func poolFlag(f api.Family) string {
	if f == api.IPv4 {
		return "--default-pool-cidr"
	}
	return "--default-pool6-cidr"
}

func hasPool(pools api.Table[*api.IPPool], f api.Family) bool {
	for _, pool := range pools.All() {
		if p, err := netip.ParsePrefix(pool.Spec.CIDR); err == nil && f.Has(p.Addr()) {
			return true
		}
	}
	return false
}

// localRange gives the unique local /48 (RFC 4193) of the cluster with this GUID. Its 40 bits are as good as random,
// so that clusters that come to know of each other one day have ranges of their own.
func localRange(guid string) netip.Prefix {
	sum := sha256.Sum256([]byte("korat " + guid))
	addr := [16]byte{0xfd}
	copy(addr[1:6], sum[:])
	return netip.PrefixFrom(netip.AddrFrom16(addr), 48)
}
