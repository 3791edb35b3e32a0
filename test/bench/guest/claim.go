// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"korat/api"
	"korat/api/store/etcd"
	"korat/ipam/block"
)

// Claim is a block of a node in the datastore that the host's koratctl would use.
type Claim struct {
	store    *etcd.Store
	affinity *api.BlockAffinity
}

// ClaimConfig says which block, whose, and where.
type ClaimConfig struct {
	Endpoint, Node string
	Block          netip.Prefix
}

const claimTimeout = 30 * time.Second

// Prepare writes the block with an affinity that is pending deletion: neither advertised nor used, and
// left alone by the node's agent.
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
	c.affinity = &api.BlockAffinity{Spec: api.BlockAffinitySpec{
		State: api.AffinityPendingDeletion, Node: cfg.Node, Type: api.AffinityHost, CIDR: cfg.Block.String(),
	}}
	c.affinity.Name = api.AffinityName(cfg.Node, cfg.Block)
	ctx, cancel := context.WithTimeout(context.Background(), claimTimeout)
	defer cancel()
	if _, err := c.store.Create(ctx, c.affinity); err != nil {
		return fmt.Errorf("prepare block: %w", err)
	}
	if _, err := c.store.Create(ctx, blk); err != nil {
		return fmt.Errorf("prepare block: %w", err)
	}
	return nil
}

// Set confirms the affinity, or takes that back, and says when the write began.
func (c *Claim) Set(confirmed bool, at *time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), claimTimeout)
	defer cancel()
	fresh, err := c.store.Get(ctx, c.affinity.Key())
	if err != nil {
		return fmt.Errorf("set affinity: %w", err)
	}
	want := c.affinity.DeepCopy()
	want.SetResourceVersion(fresh.GetResourceVersion())
	want.SetUID(fresh.GetUID())
	want.SetCreationTimestamp(fresh.GetCreationTimestamp())
	want.Spec.State = api.AffinityPendingDeletion
	if confirmed {
		want.Spec.State = api.AffinityConfirmed
	}
	if *at, err = now(); err != nil {
		return err
	}
	if _, err := c.store.Update(ctx, want); err != nil {
		return fmt.Errorf("set affinity: %w", err)
	}
	return nil
}
