// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	gobgp "github.com/osrg/gobgp/v3/api"

	"korat/bgp"
)

// apply makes the speaker's difference from the plan go away, and touches nothing else: GoBGP
// deletes and adds a neighbour for almost any update of it.
func (s *session) apply(ctx context.Context) error {
	plan := s.c.wishNow().plan
	if plan.Global.AS == 0 {
		return nil
	}
	if !sameGlobal(apiGlobal(plan.Global, s.ipv6), s.global) {
		return errGlobal
	}
	// A neighbour must not get End-of-RIB before our routes, so these come before the peers.
	if err := s.applyOrigins(ctx, plan.Origins); err != nil {
		return err
	}
	if s.restarting && len(plan.Peers) > 0 && s.latch == nil {
		s.setLatch(ctx, plan.Global)
	}
	err := s.applyPeers(ctx, plan)
	s.restarting = false
	s.applied = true
	s.c.instance.spoke = true
	return err
}

func (s *session) applyOrigins(ctx context.Context, want map[netip.Prefix]struct{}) error {
	var errs []error
	for _, p := range slices.SortedFunc(maps.Keys(want), comparePrefixes) {
		if _, ok := s.local[p]; !ok {
			errs = append(errs, s.originate(ctx, p))
		}
	}
	for _, p := range slices.SortedFunc(maps.Keys(s.local), comparePrefixes) {
		if _, ok := want[p]; !ok {
			errs = append(errs, s.withdraw(ctx, p))
		}
	}
	return errors.Join(errs...)
}

func comparePrefixes(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}

func (s *session) originate(ctx context.Context, p netip.Prefix) error {
	path, err := apiOrigin(p)
	if err != nil {
		return err
	}
	rpc, cancel := call(ctx)
	defer cancel()
	if _, err := s.api.AddPath(rpc, &gobgp.AddPathRequest{TableType: gobgp.TableType_GLOBAL, Path: path}); err != nil {
		return fmt.Errorf("originate %s: %w", p, err)
	}
	s.local[p] = struct{}{}
	s.c.cfg.Log.Info("prefix originated", "prefix", p)
	return nil
}

func (s *session) withdraw(ctx context.Context, p netip.Prefix) error {
	path, err := apiOrigin(p)
	if err != nil {
		return err
	}
	rpc, cancel := call(ctx)
	defer cancel()
	if _, err := s.api.DeletePath(rpc, &gobgp.DeletePathRequest{TableType: gobgp.TableType_GLOBAL, Family: path.Family, Path: path}); err != nil {
		return fmt.Errorf("withdraw %s: %w", p, err)
	}
	delete(s.local, p)
	s.c.cfg.Log.Info("prefix withdrawn", "prefix", p)
	return nil
}

func (s *session) applyPeers(ctx context.Context, plan bgp.Plan) error {
	var errs []error
	for _, addr := range slices.SortedFunc(maps.Keys(s.peers), netip.Addr.Compare) {
		want, ok := plan.Peers[addr]
		if ok && s.peers[addr] == sessionHash(want) || s.isLatch(addr) {
			continue
		}
		errs = append(errs, s.removePeer(ctx, addr))
	}
	clear(s.refused)
	for _, addr := range slices.SortedFunc(maps.Keys(plan.Peers), netip.Addr.Compare) {
		if _, ok := s.peers[addr]; ok {
			continue
		}
		if err := s.addPeer(ctx, plan.Peers[addr], plan.Global.AS); err != nil {
			s.refused[addr] = err
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (s *session) removePeer(ctx context.Context, addr netip.Addr) error {
	rpc, cancel := call(ctx)
	defer cancel()
	if _, err := s.api.DeletePeer(rpc, &gobgp.DeletePeerRequest{Address: addr.String()}); err != nil {
		return fmt.Errorf("remove peer %s: %w", addr, err)
	}
	s.c.cfg.Log.Info("peer removed", "peer", addr, "ours", s.peers[addr] != "")
	delete(s.peers, addr)
	delete(s.remote, addr)
	old := s.c.table.session(addr)
	s.changed = s.c.table.setSession(addr, bgp.Session{State: stateIdle, Since: old.Since}) || s.changed
	return nil
}

func (s *session) addPeer(ctx context.Context, p bgp.Peer, ownAS uint32) error {
	rpc, cancel := call(ctx)
	defer cancel()
	if _, err := s.api.AddPeer(rpc, &gobgp.AddPeerRequest{Peer: apiPeer(p, ownAS, s.restarting)}); err != nil {
		return fmt.Errorf("add %s peer %s (%s): %w", p.Kind, p.Name, p.Address, err)
	}
	s.peers[p.Address] = sessionHash(p)
	s.c.cfg.Log.Info("peer added", "peer", p.Address, "name", p.Name, "as", p.AS, "passive", p.Passive, "restarting", s.restarting)
	s.changed = s.c.table.setSession(p.Address, bgp.Session{State: stateIdle, Reason: reason(p, "", nil)}) || s.changed
	return nil
}
