// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"korat/felix/reconcile"
	"korat/policy"
)

// ErrSetInUse is of a set that can't be destroyed because rules still refer to it.
var ErrSetInUse = errors.New("rules refer to it")

// DefaultMaxMembers is the most members that a set may have unless it is configured otherwise; Calico's default.
const DefaultMaxMembers = 1 << 20

// Sets are the kernel's IP sets whose names begin with "cali40", "cali60" or, while they are made, "cali4t". They are
// hash:net, hash:ip,port and bitmap:port, of the family in their name. Everybody else's are left alone. A Sets belongs to
// one goroutine.
type Sets struct {
	h          *Handle
	maxMembers int
}

// Sets gives the sets, each of which may have so many members; 0 is DefaultMaxMembers.
func (h *Handle) Sets(maxMembers int) *Sets {
	s := &Sets{h: h}
	s.Limit(maxMembers)
	return s
}

// Limit has sets made for so many members; 0 is DefaultMaxMembers. If that is another number than before, those that
// there are must be replaced: Read gives them as ones that are not as Write makes them.
func (s *Sets) Limit(maxMembers int) (changed bool) {
	if maxMembers <= 0 {
		maxMembers = DefaultMaxMembers
	}
	changed = maxMembers != s.maxMembers
	s.maxMembers = maxMembers
	return changed
}

// SetChange is what becomes of one set. Adding what is there, removing what is not and destroying the absent
// are success.
type SetChange struct {
	Key policy.SetKey
	// Add and Remove are members of a set that exists.
	Add, Remove []policy.Member
	// Replace makes the set, or gives it Add as its whole content at once: there is no moment without it. A set
	// with the same name that is of another type is destroyed first, which takes that no rule refers to it.
	Replace bool
	// Destroy removes the set, if Read would still give it under this key: by now its name may be another one's.
	Destroy bool
}

// Write makes the changes: first all that adds, then what removes, and what destroys at last. Its error is a
// *reconcile.WriteError of those that could not be made; a set of which a change failed may have part of it, but one
// that could not be replaced is as it was. The error of a set that could not be destroyed is ErrSetInUse if that
// will do once rules are gone.
func (s *Sets) Write(ctx context.Context, changes []SetChange) error {
	w := setWriter{Sets: s, ctx: ctx, replaced: map[string]bool{}}
	for _, c := range changes {
		w.take(c)
	}
	for _, step := range []func() error{w.replace, w.add, w.remove, w.destroy} {
		if err := step(); err != nil {
			return err
		}
	}
	return w.failed.Err()
}

// setWriter is one Write.
type setWriter struct {
	*Sets
	ctx    context.Context
	failed reconcile.WriteError[policy.SetKey]
	// replacements, alterations and removals are the valid changes.
	replacements, alterations, removals []SetChange
	// replaced are the names in replacements.
	replaced map[string]bool
}

// take sorts a change, or fails it.
func (w *setWriter) take(c SetChange) {
	err := checkChange(c)
	if err == nil && c.Replace && w.replaced[c.Key.Name] {
		err = errors.New("it is replaced twice")
	}
	if err != nil {
		w.failed.Fail(c.Key, fmt.Errorf("write set %s: %w", c.Key.Name, err))
		return
	}
	switch {
	case c.Destroy:
		w.removals = append(w.removals, c)
	case c.Replace:
		w.replaced[c.Key.Name] = true
		w.replacements = append(w.replacements, c)
	default:
		w.alterations = append(w.alterations, c)
	}
}

func checkChange(c SetChange) error {
	name := c.Key.Name
	switch {
	case !ownSet(name) || len(name) > maxSetName:
		return fmt.Errorf("not a name of ours, which begin with %s or %s and have at most %d bytes", setPrefix4, setPrefix6, maxSetName)
	case c.Destroy:
		return nil
	case temporary(name):
		return errors.New("a name of temporary sets")
	case c.Key.Family != nameFamily(name):
		return fmt.Errorf("its name is not that of an %v set", c.Key.Family)
	}
	if _, err := typeOf(c.Key.Kind); err != nil {
		return err
	}
	for _, members := range [][]policy.Member{c.Add, c.Remove} {
		for _, m := range members {
			if err := checkMember(c.Key, m); err != nil {
				return fmt.Errorf("member %v: %w", m, err)
			}
		}
	}
	return nil
}

// setMessage is a message about a set.
type setMessage struct {
	command uint16
	key     policy.SetKey
	// name is the set's that it is about, for a while a temporary one's; other is the second's of a swap or rename.
	name, other string
	members     []policy.Member
	// room is how many members a new set is meant for.
	room int
}

func (m setMessage) encode(b *buffer, maxMembers int) error {
	switch m.command {
	case nl.IPSET_CMD_CREATE:
		return encodeSetCreate(b, m.name, m.key, m.room, maxMembers)
	case nl.IPSET_CMD_ADD, nl.IPSET_CMD_DEL:
		encodeMembers(b, m.command, m.name, m.key.Kind, m.members)
	case nl.IPSET_CMD_SWAP, nl.IPSET_CMD_RENAME:
		encodeSetPair(b, m.command, m.name, m.other)
	default:
		beginSet(b, m.command, 0, m.name)
	}
	return nil
}

// send sends messages, and gives the first failure of each set.
func (w *setWriter) send(messages []setMessage) (map[policy.SetKey]error, error) {
	failed := map[policy.SetKey]error{}
	err := w.h.netfilter.write(w.ctx, changes{
		n: len(messages), count: &w.h.writes.sets,
		encode: func(b *buffer, i int) error { return messages[i].encode(b, w.maxMembers) },
		failed: func(i int, err error) {
			m := messages[i]
			absent := m.command == nl.IPSET_CMD_DESTROY && errors.Is(err, unix.ENOENT)
			if failed[m.key] == nil && !absent {
				failed[m.key] = m.explain(err, w.maxMembers)
			}
		},
	})
	return failed, wrap("write IP sets", err)
}

// must is send where a failure fails the change.
func (w *setWriter) must(messages []setMessage) error {
	failed, err := w.send(messages)
	for key, err := range failed {
		w.failed.Fail(key, err)
	}
	return err
}

// memberMessages gives as many messages as the members take.
func memberMessages(to []setMessage, command uint16, name string, key policy.SetKey, members []policy.Member) []setMessage {
	for some := range slices.Chunk(members, membersPerMessage) {
		to = append(to, setMessage{command: command, key: key, name: name, members: some})
	}
	return to
}

func (w *setWriter) add() error {
	var messages []setMessage
	for _, c := range w.alterations {
		messages = memberMessages(messages, nl.IPSET_CMD_ADD, c.Key.Name, c.Key, c.Add)
	}
	return w.must(messages)
}

func (w *setWriter) remove() error {
	var messages []setMessage
	for _, c := range w.alterations {
		messages = memberMessages(messages, nl.IPSET_CMD_DEL, c.Key.Name, c.Key, c.Remove)
	}
	return w.must(messages)
}

func (w *setWriter) destroy() error {
	var messages []setMessage
	for _, c := range w.removals {
		is, err := w.identify(w.ctx, c.Key.Name)
		if err != nil {
			return err
		}
		if is == c.Key {
			messages = append(messages, setMessage{command: nl.IPSET_CMD_DESTROY, key: c.Key, name: c.Key.Name})
		}
	}
	return w.must(messages)
}

// replace fills a temporary set for each replacement, and puts those that could be filled in their places.
func (w *setWriter) replace() error {
	if len(w.replacements) == 0 {
		return nil
	}
	temporary := make(map[policy.SetKey]string, len(w.replacements))
	var fill, sweep []setMessage
	for i, c := range w.replacements {
		name := tempPrefix4 + strconv.Itoa(i)
		temporary[c.Key] = name
		destroy := setMessage{command: nl.IPSET_CMD_DESTROY, key: c.Key, name: name}
		fill = append(fill, destroy, setMessage{command: nl.IPSET_CMD_CREATE, key: c.Key, name: name, room: len(c.Add)})
		fill = memberMessages(fill, nl.IPSET_CMD_ADD, name, c.Key, c.Add)
		sweep = append(sweep, destroy)
	}
	failed, err := w.send(fill)
	if err == nil {
		err = w.install(temporary, failed)
	}
	swept, errSweep := w.send(sweep)
	for key, err := range swept {
		if failed[key] == nil {
			failed[key] = err
		}
	}
	for key, err := range failed {
		w.failed.Fail(key, err)
	}
	return errors.Join(err, errSweep)
}

// install swaps the temporary sets with those whose place they take, and adds what fails to failed. One that there is
// none of yet is renamed.
func (w *setWriter) install(temporary map[policy.SetKey]string, failed map[policy.SetKey]error) error {
	var swap, rename []setMessage
	for key, name := range temporary {
		if failed[key] == nil {
			swap = append(swap, setMessage{command: nl.IPSET_CMD_SWAP, key: key, name: name, other: key.Name})
		}
	}
	swapped, err := w.send(swap)
	if err != nil {
		return err
	}
	for key, err := range swapped {
		switch {
		case errors.Is(err, errSecondName):
		case errors.Is(err, errOtherType):
			rename = append(rename, setMessage{command: nl.IPSET_CMD_DESTROY, key: key, name: key.Name})
		default:
			failed[key] = err
			continue
		}
		rename = append(rename, setMessage{command: nl.IPSET_CMD_RENAME, key: key, name: temporary[key], other: key.Name})
	}
	renamed, err := w.send(rename)
	for key, err := range renamed {
		if errors.Is(swapped[key], errOtherType) {
			err = fmt.Errorf("replace a set of another type: %w", err)
		}
		failed[key] = err
	}
	return err
}
