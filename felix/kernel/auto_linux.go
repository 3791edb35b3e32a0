// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"log/slog"

	"korat/api"
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
	// choice is why chains is of the backend that it is of.
	choice Choice
	// unread says that nothing has been read of chains yet.
	unread bool
	// swept says that the other backend has nothing of ours any more.
	swept bool
	// distrusted is what Distrust was told.
	distrusted map[string]error
	// groups says for each family why this backend's rules can't match link groups; nil if they can.
	groups map[api.Family]error
}

// AutoChains gives the table. Nothing is looked at before the first Read.
func (h *Handle) AutoChains(log *slog.Logger) *AutoChains { return &AutoChains{h: h, log: log} }

// Want asks for a backend: "Auto", "NFT" or "Legacy". If that is another one than was asked for last, it says so: what
// is known of the chains is then known of the other one. The next Read goes over to it. What is ours in the one left is
// removed when all is written.
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

// open chooses the backend.
func (a *AutoChains) open(ctx context.Context) error {
	if a.chains != nil {
		return nil
	}
	choice, err := a.h.ChooseBackend(ctx, a.want)
	if err != nil {
		return err
	}
	if a.chains, err = a.h.Chains(ChainsConfig{Backend: choice.Backend}); err != nil {
		return err
	}
	a.unread, a.swept, a.choice, a.groups = true, false, choice, map[api.Family]error{}
	a.chains.Distrust(a.distrusted)
	a.log.Info("packet filter", "backend", string(choice.Backend), "reason", choice.Reason)
	if choice.Warning != "" {
		a.log.Warn("packet filter", "warning", choice.Warning)
	}
	return nil
}

// Groups says whether rules can match the link groups of interfaces, in all of these families. It chooses the backend, and
// asks iptables and the kernel until they have answered for each.
func (a *AutoChains) Groups(ctx context.Context, families []api.Family) (bool, error) {
	if err := a.open(ctx); err != nil {
		return false, err
	}
	able := true
	for _, f := range families {
		no, asked := a.groups[f]
		if !asked {
			no = a.h.MatchesGroups(ctx, ChainsConfig{Backend: a.choice.Backend}, f)
			if fleeting(no) {
				return false, no
			}
			a.groups[f] = no
			if no != nil {
				a.log.Info("packet filter", "dispatch", "by interface names: rules can't match link groups", "reason", no.Error())
			}
		}
		able = able && no == nil
	}
	return able, nil
}

// sweep clears the other backend of what is ours, once. Before everything is written in this one that would open what
// it closes.
func (a *AutoChains) sweep(ctx context.Context) {
	if a.swept {
		return
	}
	removed, err := a.chains.Sweep(ctx)
	if err != nil {
		a.log.Warn("packet filter", "error", err)
		return
	}
	if a.swept = true; removed > 0 {
		a.log.Info("packet filter", "removed_elsewhere", removed)
	}
}

// Read implements reconcile.Table.
func (a *AutoChains) Read(ctx context.Context) (map[chain.Key]*chain.Chain, error) {
	have, _, err := a.ReadChanged(ctx, 0)
	return have, err
}

// ReadChanged implements reconcile.DigestReader.
func (a *AutoChains) ReadChanged(ctx context.Context, since uint64) (map[chain.Key]*chain.Chain, uint64, error) {
	if err := a.open(ctx); err != nil {
		return nil, 0, err
	}
	if a.unread { // since is another backend's
		since = 0
	}
	have, digest, err := a.chains.ReadChanged(ctx, since)
	a.unread = a.unread && err != nil
	if err == nil && have == nil { // nothing has changed since it was as wanted
		a.sweep(ctx)
	}
	return have, digest, err
}

// Write implements reconcile.Table.
func (a *AutoChains) Write(ctx context.Context, d reconcile.Diff[chain.Key, *chain.Chain]) error {
	if err := a.open(ctx); err != nil {
		return err
	}
	err := a.chains.Write(ctx, d)
	if err == nil || Closed(err) {
		a.sweep(ctx)
	}
	return err
}

// Distrust is Chains.Distrust.
func (a *AutoChains) Distrust(sets map[string]error) {
	if a.distrusted = sets; a.chains != nil {
		a.chains.Distrust(sets)
	}
}

// Choice gives the backend, and why it is this one; nothing before the first Read.
func (a *AutoChains) Choice() Choice {
	if a.chains == nil {
		return Choice{}
	}
	return a.choice
}

// Awaited is Handle.Awaited. It may be used by any goroutine.
func (a *AutoChains) Awaited() string { return a.h.Awaited() }

// Counter gives what counts a chain's rules, in the backend that the chains are in by now. It may be used by any
// goroutine.
func (a *AutoChains) Counter() func(context.Context, chain.Key) ([]RuleCounter, error) {
	config := ChainsConfig{Backend: a.Choice().Backend}.filled()
	return func(ctx context.Context, k chain.Key) ([]RuleCounter, error) {
		if config.Backend == "" {
			return nil, errors.New("no backend of iptables has been chosen yet")
		}
		return (&side{h: a.h, config: config, family: k.Family}).counters(ctx, k)
	}
}
