// SPDX-License-Identifier: Apache-2.0

// Package ipam gives pods their addresses. A block of a pool belongs to one node; the node hands
// its addresses out on its own, so that an assignment needs no datastore.
//
//   - Allocator is the state, owned by the agent's loop: which addresses of this node's blocks are
//     held, and by whom. It does no I/O. The agent's CNI record is restored into it at start.
//   - Keeper is the one goroutine that writes to the datastore: it claims blocks, heals claims that
//     a crash left half done, publishes the blocks' contents, and gives back blocks that are not needed.
//
// The loop calls Allocator.Update with each Snapshot, and passes Allocator.Wants to Keeper.Want;
// what the Keeper writes comes back with a later Snapshot. Before a block is given back the Keeper asks, by
// Keeper.Leaving and Allocator.SetLeaving, that nothing more be assigned of it; see returns.go. Package block has one block's arithmetic,
// package journal the file that survives the agent.
//
// What the Allocator remembers always wins over the datastore's copy of an own confirmed block: a
// copy that lags neither frees a held address nor brings a released one back. What only the
// copy knows (the handle of a pod that the CNI record lacks) stays in use as an Orphan until the
// agent has evidence that the pod is gone. What another node holds of a block (its attribute "node" says so)
// is that node's to release.
//
// A released address rests before it is assigned again (cooldown.go). With strictAffinity false a node leases the
// addresses of its own block in the datastore before it assigns them (lend.go), and borrows others' where it can claim
// no block (borrow.go, and share.go for the writes); docs/decisions/0009 says why that gives none twice.
//
// Open allocator.go first, then assign.go and claim.go.
package ipam
