// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"korat/api"
	"korat/api/store"
	"korat/api/store/etcd"
	"korat/ipam/block"
)

// Claim is a block of a node, in the datastore that the host's koratctl would use. It comes and goes for the
// other nodes: its pool says whether it is advertised. Whether it is the node's, nobody but the node's agent
// can write: that completes or takes back what others begin.
type Claim struct {
	store *etcd.Store
	pool  *api.IPPool
}

// ClaimConfig says which block, whose, and where.
type ClaimConfig struct {
	Endpoint, Node string
	Block          netip.Prefix
}

const claimTimeout = 30 * time.Second

// Prepare writes the block, with a pool of its own that keeps it from being advertised.
func (c *Claim) Prepare(cfg ClaimConfig, _ *Nothing) error {
	var err error
	c.store, err = etcd.New(etcd.Config{
		Endpoints: []string{cfg.Endpoint}, CAFile: "/etc/korat/tls/ca.pem",
		CertFile: "/etc/korat/tls/node.pem", KeyFile: "/etc/korat/tls/node-key.pem", Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	empty, err := block.New(cfg.Block, api.AffinityHost+":"+cfg.Node)
	if err != nil {
		return err
	}
	blk := &api.IPAMBlock{Spec: empty.Spec()}
	blk.Name = api.BlockName(cfg.Block)
	affinity := &api.BlockAffinity{Spec: api.BlockAffinitySpec{
		State: api.AffinityConfirmed, Node: cfg.Node, Type: api.AffinityHost, CIDR: cfg.Block.String(),
	}}
	affinity.Name = api.AffinityName(cfg.Node, cfg.Block)
	c.pool = &api.IPPool{Spec: api.IPPoolSpec{CIDR: cfg.Block.String(), BlockSize: cfg.Block.Bits(), DisableBGPExport: true}}
	c.pool.Name = "bench"
	api.Default(c.pool)
	ctx, cancel := context.WithTimeout(context.Background(), claimTimeout)
	defer cancel()
	for _, obj := range []api.Object{c.pool, affinity, blk} {
		// The agent may complete it before we do.
		if _, err := c.store.Create(ctx, obj); err != nil && !errors.Is(err, store.ErrExists) {
			return fmt.Errorf("prepare block: %w", err)
		}
	}
	return nil
}

// Set lets the block be advertised, or not, and says when the write began.
func (c *Claim) Set(advertised bool, at *time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), claimTimeout)
	defer cancel()
	fresh, err := c.store.Get(ctx, c.pool.Key())
	if err != nil {
		return fmt.Errorf("set pool: %w", err)
	}
	want := fresh.DeepCopyObject().(*api.IPPool)
	want.Spec.DisableBGPExport = !advertised
	if *at, err = now(); err != nil {
		return err
	}
	if _, err := c.store.Update(ctx, want); err != nil {
		return fmt.Errorf("set pool: %w", err)
	}
	return nil
}
