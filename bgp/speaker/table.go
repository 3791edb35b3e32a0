// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"korat/bgp"
)

// table is the RIB as it grows. Changing one entry costs what it touches; the copy that a reader
// gets is made when it asks, so a storm of events costs one copy.
type table struct {
	mu    sync.Mutex
	paths map[netip.Prefix][]bgp.Path
	// sessions are all that the speaker has, and wanted those that a reader gets: the speaker may have
	// some that no plan has named yet.
	sessions map[netip.Addr]bgp.Session
	wanted   map[netip.Addr]bgp.Peer
	complete bool
	running  bool
	// copied is what the last reader got; its maps are reused while they are still true.
	copied                    bgp.RIB
	pathsMoved, sessionsMoved bool
}

func newTable() *table {
	return &table{paths: map[netip.Prefix][]bgp.Path{}, sessions: map[netip.Addr]bgp.Session{}, pathsMoved: true, sessionsMoved: true}
}

func (t *table) rib() bgp.RIB {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pathsMoved {
		t.copied.Paths, t.pathsMoved = maps.Clone(t.paths), false
		t.copied.Generation++
	}
	if t.sessionsMoved {
		t.copied.Sessions, t.sessionsMoved = make(map[netip.Addr]bgp.Session, len(t.wanted)), false
		for peer := range t.wanted {
			if s, ok := t.sessions[peer]; ok {
				t.copied.Sessions[peer] = s
			}
		}
	}
	t.copied.Complete, t.copied.Running = t.complete, t.running
	return t.copied
}

func (t *table) prefixes() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.paths)
}

// setPaths replaces the paths of one prefix; none removes it. The slice becomes the table's.
func (t *table) setPaths(prefix netip.Prefix, paths []bgp.Path) (changed bool) {
	sortPaths(paths)
	t.mu.Lock()
	defer t.mu.Unlock()
	if slices.Equal(t.paths[prefix], paths) {
		return false
	}
	if len(paths) == 0 {
		delete(t.paths, prefix)
	} else {
		t.paths[prefix] = paths
	}
	t.pathsMoved = true
	return true
}

// setAllPaths replaces everything. The map becomes the table's.
func (t *table) setAllPaths(paths map[netip.Prefix][]bgp.Path) (changed bool) {
	for _, p := range paths {
		sortPaths(p)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	changed = !maps.EqualFunc(t.paths, paths, slices.Equal[[]bgp.Path])
	t.paths = paths
	t.pathsMoved = t.pathsMoved || changed
	return changed
}

func sortPaths(paths []bgp.Path) {
	slices.SortFunc(paths, func(a, b bgp.Path) int {
		return cmp.Or(a.NextHop.Compare(b.NextHop), a.Peer.Compare(b.Peer))
	})
}

func (t *table) session(peer netip.Addr) bgp.Session {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sessions[peer]
}

// setSession replaces what is known of a session. changed leaves the counters out, which move
// all the time and on which nobody acts, and the sessions that nobody gets to see.
func (t *table) setSession(peer netip.Addr, s bgp.Session) (changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old, known := t.sessions[peer]
	if known && old == s {
		return false
	}
	t.sessions[peer], t.sessionsMoved = s, true
	old.Received, old.Advertised, old.Since = s.Received, s.Advertised, s.Since
	_, wanted := t.wanted[peer]
	return wanted && (!known || old != s)
}

// want names the peers that readers get to see. The map is kept and not changed.
func (t *table) want(peers map[netip.Addr]bgp.Peer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wanted, t.sessionsMoved = peers, true
}

// keepSessions forgets the sessions of peers that are neither the speaker's nor wanted.
func (t *table) keepSessions(speakers map[netip.Addr]string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.sessions, func(peer netip.Addr, _ bgp.Session) bool {
		_, has := speakers[peer]
		_, wanted := t.wanted[peer]
		return !has && !wanted
	})
}

func (t *table) setRunning() (changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	changed = !t.running
	t.running = true
	return changed
}

func (t *table) isComplete() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.complete
}

func (t *table) setComplete(complete bool) (changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	changed = t.complete != complete
	t.complete = complete
	return changed
}

// lost marks the speaker as gone. The paths stay: they are the last that is known.
func (t *table) lost() (changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.running {
		return false
	}
	t.running, t.complete = false, false
	for peer, s := range t.sessions {
		s.State, s.EndOfRIB, s.Reason = stateIdle, false, "the speaker is not running"
		t.sessions[peer] = s
	}
	t.sessionsMoved = true
	return true
}
