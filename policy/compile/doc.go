// SPDX-License-Identifier: Apache-2.0

// Package compile turns policies and the endpoints of this node into chains and sets. A Compiler is told what comes
// and goes; Update then gives what that changes. It is deterministic: what it holds depends on what it was told last
// of each thing, never on the order or on what was there before, so that an agent that starts anew finds in the
// kernel what it would write.
//
//	compiler.go   what a Compiler is told
//	update.go     what follows from it, in which order
//	source.go     a policy or a profile, and the chains of its rules
//	expansion.go  one rule → conditions
//	group.go      endpoints with the same policies, and the chains that they share
//	class.go      link groups of interfaces
//	dispatch.go   interfaces and groups → chains of endpoints, in trees (tree.go)
//	frame.go      the chains that are always there
//	refusal.go    what is dropped whatever policies say
//	nat.go        those of what leaves all pools
//	member.go     sets, and who is in them
//
// Chains are named as Calico's are. A chain of a policy does nothing but decide: by going to cali-allow or cali-pass,
// which mark the packet and come back to the chain of the endpoint, or by dropping it. What is missing, unknown or
// out of step ends at a DROP.
package compile
