// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"korat/api"
	"korat/policy"
)

// Members are what is in a set.
type Members = map[policy.Member]struct{}

// Read gives the sets that are ours by their names, with their members. One that is not as Write makes them (of
// another type, family or size, with time-outs, counters or exceptions, or a temporary one that was left behind)
// comes without members under a key of Family 0, which nothing is wanted under: so it is replaced or destroyed.
// What Write does meanwhile may be seen in part.
func (s *Sets) Read(ctx context.Context) (map[policy.SetKey]Members, error) {
	r, err := s.read(ctx, 0, "")
	if err != nil {
		return nil, err
	}
	have := make(map[policy.SetKey]Members, len(r.sets))
	for name, set := range r.sets {
		have[set.key(name)] = set.members
	}
	return have, nil
}

// ReadSizes gives what Read does, but only how many members each set has. It costs some microseconds a set however
// large that is. The kernel has no notices of changes to sets, nor a generation number; a paced ReadSizes sees
// what came, went or was filled or emptied, and does not see that a member was replaced by another one.
func (s *Sets) ReadSizes(ctx context.Context) (map[policy.SetKey]int, error) {
	r, err := s.read(ctx, listHeaders, "")
	if err != nil {
		return nil, err
	}
	sizes := make(map[policy.SetKey]int, len(r.sets))
	for name, set := range r.sets {
		sizes[set.key(name)] = set.size
	}
	return sizes, nil
}

// identify gives the key under which Read would give the set of a name: one without a name if there is none.
func (s *Sets) identify(ctx context.Context, name string) (policy.SetKey, error) {
	r, err := s.read(ctx, listHeaders, name)
	if err != nil || r.sets[name] == nil {
		return policy.SetKey{}, err
	}
	return r.sets[name].key(name), nil
}

// read reads one set, or all if name is empty.
func (s *Sets) read(ctx context.Context, flags uint32, name string) (*setReader, error) {
	r := &setReader{maxMembers: s.maxMembers, headers: flags&listHeaders != 0}
	err := s.h.netfilter.dump(ctx, func(b *buffer) { encodeSetList(b, flags, name) }, r.start, r.message)
	if name != "" && errors.Is(err, unix.ENOENT) {
		return r, nil
	}
	return r, wrap("list IP sets", err)
}

// setReader collects the sets that are ours.
type setReader struct {
	maxMembers int
	// headers says that members are not asked for.
	headers bool
	sets    map[string]*readSet
}

type readSet struct {
	family  api.Family
	kind    policy.SetKind
	wrong   bool
	size    int
	members Members
}

// spoil notes that it is not as Write makes them.
func (s *readSet) spoil() { s.wrong, s.members = true, nil }

func (s *readSet) key(name string) policy.SetKey {
	if s.wrong {
		return policy.SetKey{Name: name}
	}
	return policy.SetKey{Name: name, Family: s.family, Kind: s.kind}
}

func (r *setReader) start() { r.sets = map[string]*readSet{} }

// message takes one of the messages of a set: the first one has its header, and each some members.
func (r *setReader) message(m message) {
	var attrs [nl.IPSET_ATTR_ADT + 1][]byte
	for typ, value := range attributes(m.body, netfilterHeader) {
		if int(typ) < len(attrs) {
			attrs[typ] = value
		}
	}
	name := stringOf(attrs[nl.IPSET_ATTR_SETNAME])
	if !ownSet(name) {
		return
	}
	set := r.sets[name]
	if attrs[nl.IPSET_ATTR_TYPENAME] != nil {
		set = r.header(name, stringOf(attrs[nl.IPSET_ATTR_TYPENAME]), uint8Of(attrs[nl.IPSET_ATTR_FAMILY]), attrs[nl.IPSET_ATTR_DATA])
		r.sets[name] = set
	}
	if set == nil || set.wrong || r.headers {
		return
	}
	for _, member := range attributes(attrs[nl.IPSET_ATTR_ADT], 0) {
		decoded, ok := decodeMember(set.kind, member)
		if !ok {
			set.spoil()
			return
		}
		set.members[decoded] = struct{}{}
	}
	set.size = len(set.members)
}

// header takes what a set is.
func (r *setReader) header(name, typ string, family uint8, data []byte) *readSet {
	set := &readSet{family: nameFamily(name)}
	kinds := []policy.SetKind{policy.Prefixes, policy.AddressPorts, policy.PortNumbers}
	i := slices.IndexFunc(kinds, func(k policy.SetKind) bool {
		t, err := typeOf(k)
		return err == nil && t.name == typ
	})
	if i < 0 || temporary(name) {
		set.spoil()
		return set
	}
	set.kind = kinds[i]
	set.wrong = family != setFamily(policy.SetKey{Family: set.family, Kind: set.kind})
	maxMembers, last := r.maxMembers, uint16(lastPort)
	for typ, value := range attributes(data, 0) {
		switch typ {
		case nl.IPSET_ATTR_MAXELEM:
			maxMembers = int(big32Of(value))
		case nl.IPSET_ATTR_PORT_TO:
			last = big16Of(value)
		case nl.IPSET_ATTR_ELEMENTS:
			set.size = int(big32Of(value))
		case nl.IPSET_ATTR_TIMEOUT, nl.IPSET_ATTR_NETMASK, bitmask, nl.IPSET_ATTR_CADT_FLAGS:
			set.wrong = true
		}
	}
	if set.wrong = set.wrong || maxMembers != r.maxMembers || last != lastPort; set.wrong {
		return set
	}
	if !r.headers {
		set.members = make(Members, min(set.size, r.maxMembers))
	}
	return set
}

// bitmask is IPSET_ATTR_BITMASK (Linux 6.2).
const bitmask = 27

// decodeMember: ok is false of what encodeMembers never made, such as an exception ("nomatch").
func decodeMember(kind policy.SetKind, data []byte) (m policy.Member, ok bool) {
	bits := -1
	var addr netip.Addr
	for typ, value := range attributes(data, 0) {
		switch typ {
		case nl.IPSET_ATTR_IP:
			for _, v := range attributes(value, 0) {
				addr, _ = netip.AddrFromSlice(v)
			}
		case nl.IPSET_ATTR_CIDR:
			bits = int(uint8Of(value))
		case nl.IPSET_ATTR_PORT:
			m.Port = big16Of(value)
		case nl.IPSET_ATTR_PROTO:
			m.Protocol = policy.Protocol(uint8Of(value))
		case nl.IPSET_ATTR_CADT_FLAGS:
			return m, false
		}
	}
	if kind == policy.PortNumbers {
		return m, true
	}
	if bits < 0 {
		bits = addr.BitLen()
	}
	m.Prefix = netip.PrefixFrom(addr, bits)
	return m, m.Prefix.IsValid()
}

// What our sets' names begin with, and those of the temporary ones, which exist only within a Write; Calico has
// temporary ones for IPv6 too.
const (
	setPrefix4, setPrefix6   = "cali40", "cali60"
	tempPrefix4, tempPrefix6 = "cali4t", "cali6t"
	maxSetName               = nl.IPSET_MAXNAMELEN - 1
)

func ownSet(name string) bool {
	return strings.HasPrefix(name, setPrefix4) || strings.HasPrefix(name, setPrefix6) || temporary(name)
}

func temporary(name string) bool {
	return strings.HasPrefix(name, tempPrefix4) || strings.HasPrefix(name, tempPrefix6)
}

// nameFamily is the family in a set's name. That of a bitmap of ports is in its name only.
func nameFamily(name string) api.Family {
	if strings.HasPrefix(name, setPrefix6) {
		return api.IPv6
	}
	return api.IPv4
}
