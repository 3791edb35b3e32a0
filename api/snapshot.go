// SPDX-License-Identifier: Apache-2.0

package api

import (
	"iter"

	iradix "github.com/hashicorp/go-immutable-radix/v2"
)

// Snapshot is one immutable picture of the datastore. Copying it is cheap: the tables share
// their structure with the Snapshots before and after.
//
// +kubebuilder:object:generate=false
type Snapshot struct {
	// InSync is true once every kind has been listed; nothing may be written before.
	InSync bool

	RoutingTables
	PolicyTables
}

// RoutingTables hold who is where, and how it is reached.
//
// +kubebuilder:object:generate=false
type RoutingTables struct {
	IPPools             Table[*IPPool]
	BGPConfigurations   Table[*BGPConfiguration]
	BGPPeers            Table[*BGPPeer]
	Nodes               Table[*Node]
	WorkloadEndpoints   Table[*WorkloadEndpoint]
	IPAMConfigurations  Table[*IPAMConfiguration]
	IPReservations      Table[*IPReservation]
	BlockAffinities     Table[*BlockAffinity]
	IPAMBlocks          Table[*IPAMBlock]
	ClusterInformations Table[*ClusterInformation]
	FelixConfigurations Table[*FelixConfiguration]
}

// PolicyTables hold who may speak with whom.
//
// +kubebuilder:object:generate=false
type PolicyTables struct {
	Tiers                       Table[*Tier]
	Profiles                    Table[*Profile]
	NetworkPolicies             Table[*NetworkPolicy]
	GlobalNetworkPolicies       Table[*GlobalNetworkPolicy]
	StagedNetworkPolicies       Table[*StagedNetworkPolicy]
	StagedGlobalNetworkPolicies Table[*StagedGlobalNetworkPolicy]
	NetworkSets                 Table[*NetworkSet]
	GlobalNetworkSets           Table[*GlobalNetworkSet]
	HostEndpoints               Table[*HostEndpoint]
	KubernetesNetworkPolicies   Table[*KubernetesNetworkPolicy]
	ClusterNetworkPolicies      Table[*ClusterNetworkPolicy]
	EndpointSlices              Table[*EndpointSlice]
}

// DatastoreReady is false while ClusterInformation says that nobody may write, as for a migration.
func (s Snapshot) DatastoreReady() bool {
	info, ok := s.ClusterInformations.Get(DefaultName)
	return !ok || info.Spec.DatastoreReady == nil || *info.Spec.DatastoreReady
}

// Table is an immutable map of one kind's objects, ordered by "namespace/name" (cluster-scoped:
// by name). The zero Table is empty.
//
// +kubebuilder:object:generate=false
type Table[T Object] struct {
	tree *iradix.Tree[T]
}

// Get returns the object with the given name ("namespace/name" where the kind has namespaces).
func (t Table[T]) Get(name string) (T, bool) {
	if t.tree == nil {
		var zero T
		return zero, false
	}
	return t.tree.Get([]byte(name))
}

// Len counts the objects.
func (t Table[T]) Len() int {
	if t.tree == nil {
		return 0
	}
	return t.tree.Len()
}

// All yields names and objects in order.
func (t Table[T]) All() iter.Seq2[string, T] {
	return func(yield func(string, T) bool) {
		if t.tree == nil {
			return
		}
		t.tree.Root().Walk(func(k []byte, v T) bool { return !yield(string(k), v) })
	}
}

// Under yields those whose name begins with prefix, in order, without a look at the others.
func (t Table[T]) Under(prefix string) iter.Seq2[string, T] {
	return func(yield func(string, T) bool) {
		if t.tree == nil {
			return
		}
		t.tree.Root().WalkPrefix([]byte(prefix), func(k []byte, v T) bool { return !yield(string(k), v) })
	}
}

// Same says whether both are the very same picture, which costs no comparison of objects. It may
// be false for equal tables; it is never true for unequal ones.
func (t Table[T]) Same(o Table[T]) bool { return t.tree == o.tree }

// With gives the table with the object set under name.
func (t Table[T]) With(name string, obj T) Table[T] {
	tree := t.tree
	if tree == nil {
		tree = iradix.New[T]()
	}
	next, _, _ := tree.Insert([]byte(name), obj)
	return Table[T]{next}
}

// Without gives the table without the named object.
func (t Table[T]) Without(name string) Table[T] {
	if t.tree == nil {
		return t
	}
	next, _, ok := t.tree.Delete([]byte(name))
	if !ok {
		return t
	}
	return Table[T]{next}
}

// longestBlockName is the longest name that an IPAMBlock has: that of an IPv6 prefix without zeros.
const longestBlockName = len("ffff-ffff-ffff-ffff-ffff-ffff-ffff-ffff-128")

// AffinitiesOf yields a node's BlockAffinities, in order of their names. It finds them by their names,
// so that it costs the same in a cluster of any size; one that is not named as AffinityName says is not
// among them.
func (s Snapshot) AffinitiesOf(node string) iter.Seq2[string, *BlockAffinity] {
	named := s.BlockAffinities.Under(node + "-")
	if len(node)+1+longestBlockName > maxNameLength {
		named = s.BlockAffinities.All() // names that would be too long are shortened
	}
	return func(yield func(string, *BlockAffinity) bool) {
		for name, aff := range named {
			// Another node's name may begin as this one's.
			if aff.Spec.Node == node && !yield(name, aff) {
				return
			}
		}
	}
}
