// SPDX-License-Identifier: Apache-2.0

package api

import (
	"iter"
	"reflect"
)

// TableName is the name under which a Table holds the object: "name" or "namespace/name".
func (k Key) TableName() string {
	if k.Namespace == "" {
		return k.Name
	}
	return k.Namespace + "/" + k.Name
}

// With gives the Snapshot with the object set in its kind's table.
func (s Snapshot) With(obj Object) Snapshot {
	key := obj.Key()
	s.table(key.Kind).set(obj)
	return s
}

// WithAll gives the Snapshot with exactly these objects of a kind, and the keys of those that are not the very ones that were
// there. What comes in the place of another of its name is for join to say, which gives one of the two or a third.
func (s Snapshot) WithAll(kind Kind, objs []Object, join func(have, obj Object) Object) (Snapshot, []Key) {
	changed := s.table(kind).replace(objs, join)
	return s, changed
}

// Without gives the Snapshot without the object.
func (s Snapshot) Without(key Key) Snapshot {
	s.table(key.Kind).unset(key.TableName())
	return s
}

// Get returns the object with the given key.
func (s Snapshot) Get(key Key) (Object, bool) { return s.table(key.Kind).object(key) }

// Objects yields every object of a kind, in the Table's order.
func (s Snapshot) Objects(kind Kind) iter.Seq[Object] { return s.table(kind).objects() }

// objectTable is a Table of whatever kind.
type objectTable interface {
	object(key Key) (Object, bool)
	objects() iter.Seq[Object]
	set(obj Object)
	unset(name string)
	replace(objs []Object, join func(have, obj Object) Object) (changed []Key)
	// zero gives a new object of the kind; nil for an unsupported one.
	zero() Object
}

func (t *Table[T]) object(key Key) (Object, bool) {
	obj, ok := t.of(key)
	if !ok {
		return nil, false
	}
	return obj, true
}

func (t *Table[T]) objects() iter.Seq[Object] {
	return func(yield func(Object) bool) {
		for obj := range t.Objects() {
			if !yield(obj) {
				return
			}
		}
	}
}

func (t *Table[T]) set(obj Object) {
	if obj, ok := obj.(T); ok {
		*t = t.With(obj)
	}
}

func (t *Table[T]) unset(name string) { *t = t.Without(name) }

func (t *Table[T]) replace(objs []Object, join func(have, obj Object) Object) (changed []Key) {
	own := make([]T, 0, len(objs))
	for _, obj := range objs {
		if obj, ok := obj.(T); ok {
			own = append(own, obj)
		}
	}
	*t, changed = t.replaced(own, func(have, obj T) T {
		if joined, ok := join(have, obj).(T); ok {
			return joined
		}
		return obj
	})
	return changed
}

func (t *Table[T]) zero() Object {
	kind := reflect.TypeFor[T]()
	if kind.Kind() != reflect.Pointer {
		return nil
	}
	obj, _ := reflect.New(kind.Elem()).Interface().(Object)
	return obj
}

// table gives the kind's table; an unsupported kind has an empty one.
func (s *Snapshot) table(kind Kind) objectTable {
	if t := s.RoutingTables.table(kind); t != nil {
		return t
	}
	if t := s.PolicyTables.table(kind); t != nil {
		return t
	}
	return &Table[Object]{}
}

func (t *RoutingTables) table(kind Kind) objectTable {
	switch kind {
	case KindIPPool:
		return &t.IPPools
	case KindBGPConfiguration:
		return &t.BGPConfigurations
	case KindBGPPeer:
		return &t.BGPPeers
	case KindNode:
		return &t.Nodes
	case KindWorkloadEndpoint:
		return &t.WorkloadEndpoints
	case KindIPAMConfiguration:
		return &t.IPAMConfigurations
	case KindIPReservation:
		return &t.IPReservations
	case KindBlockAffinity:
		return &t.BlockAffinities
	case KindIPAMBlock:
		return &t.IPAMBlocks
	case KindClusterInformation:
		return &t.ClusterInformations
	case KindFelixConfiguration:
		return &t.FelixConfigurations
	default:
		return nil
	}
}

func (t *PolicyTables) table(kind Kind) objectTable {
	switch kind {
	case KindTier:
		return &t.Tiers
	case KindProfile:
		return &t.Profiles
	case KindNetworkPolicy:
		return &t.NetworkPolicies
	case KindGlobalNetworkPolicy:
		return &t.GlobalNetworkPolicies
	case KindStagedNetworkPolicy:
		return &t.StagedNetworkPolicies
	case KindStagedGlobalNetworkPolicy:
		return &t.StagedGlobalNetworkPolicies
	case KindNetworkSet:
		return &t.NetworkSets
	case KindGlobalNetworkSet:
		return &t.GlobalNetworkSets
	case KindHostEndpoint:
		return &t.HostEndpoints
	case KindKubernetesNetworkPolicy:
		return &t.KubernetesNetworkPolicies
	case KindClusterNetworkPolicy:
		return &t.ClusterNetworkPolicies
	case KindEndpointSlice:
		return &t.EndpointSlices
	default:
		return nil
	}
}
