// SPDX-License-Identifier: Apache-2.0

// Package felix keeps this node's kernel as wanted. Agent is the loop: it takes one immutable
// picture of the datastore, the host, the CNI record and what BGP learned, computes a
// dataplane.State from it, and makes the kernel's tables so, in the order of steps.go.
//
// It owns the CNI record and the answers on the agent's socket. It speaks no BGP (bgp/speaker does,
// from the Plan that the loop hands it) and writes to no datastore (ipam's keeper and felix/mirror do).
//
// Called by cmd/korat-node. Open agent.go first, then steps.go.
package felix
