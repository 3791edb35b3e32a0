// SPDX-License-Identifier: Apache-2.0

// Package policytest is what tests of policies have in common: it compiles manifests as a node's agent does, and passes
// packets through the chains as the kernel does.
//
//	world.go    manifests → a Compiler
//	golden.go   the cases in txtar files
//	machine.go  packets through chains and sets
package policytest
