// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"log/slog"

	"korat/felix/reconcile"
	"korat/policy/chain"
)

// AutoChains are the Chains of the backend that is asked for, or that the host's other users have chosen. It belongs
// to one goroutine.
type AutoChains struct {
	h   *Handle
	log *slog.Logger
	// want is what was asked for, and chains is nil until it is known what that means.
	want   string
	chains *Chains
}

// AutoChains gives the table. Nothing is looked at before the first Read.
func (h *Handle) AutoChains(log *slog.Logger) *AutoChains { return &AutoChains{h: h, log: log} }

// Want asks for a backend: "Auto", "NFT" or "Legacy". If that is another one than was asked for last, it says so: what
// is known of the chains is then known of the other one. The next Read goes over to it, and removes what is ours there.
func (a *AutoChains) Want(backend string) (changed bool, err error) {
	if backend == a.want {
		return false, nil
	}
	a.want = backend
	return true, a.Close()
}

// Close ends what writes. Nothing in the kernel changes.
func (a *AutoChains) Close() error {
	if a.chains == nil {
		return nil
	}
	err := a.chains.Close()
	a.chains = nil
	return err
}

// open chooses the backend, and clears the other one of what is ours.
func (a *AutoChains) open(ctx context.Context) error {
	if a.chains != nil {
		return nil
	}
	choice, err := a.h.ChooseBackend(ctx, a.want)
	if err != nil {
		return err
	}
	chains, err := a.h.Chains(ChainsConfig{Backend: choice.Backend})
	if err != nil {
		return err
	}
	removed, err := chains.Sweep(ctx)
	if err != nil {
		return errors.Join(err, chains.Close())
	}
	a.chains = chains
	a.log.Info("packet filter", "backend", string(choice.Backend), "reason", choice.Reason, "removed_elsewhere", removed)
	if choice.Warning != "" {
		a.log.Warn("packet filter", "warning", choice.Warning)
	}
	return nil
}

// Read implements reconcile.Table.
func (a *AutoChains) Read(ctx context.Context) (map[chain.Key]*chain.Chain, error) {
	have, _, err := a.ReadChanged(ctx, 0)
	return have, err
}

// ReadChanged implements reconcile.DigestReader.
func (a *AutoChains) ReadChanged(ctx context.Context, since uint64) (map[chain.Key]*chain.Chain, uint64, error) {
	if a.chains == nil {
		since = 0
	}
	if err := a.open(ctx); err != nil {
		return nil, 0, err
	}
	return a.chains.ReadChanged(ctx, since)
}

// Write implements reconcile.Table.
func (a *AutoChains) Write(ctx context.Context, d reconcile.Diff[chain.Key, *chain.Chain]) error {
	if err := a.open(ctx); err != nil {
		return err
	}
	return a.chains.Write(ctx, d)
}

// Counters gives what the rules of a chain have seen.
func (a *AutoChains) Counters(ctx context.Context, k chain.Key) ([]RuleCounter, error) {
	if err := a.open(ctx); err != nil {
		return nil, err
	}
	return a.chains.Counters(ctx, k)
}
