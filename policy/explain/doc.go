// SPDX-License-Identifier: Apache-2.0

// Package explain says what policies make of a flow, and why: a second evaluator of the model of package policy.
// It shares no code with policy/compile and policy/index. It walks tiers, policies and rules one by one, as the
// documentation tells their meaning, so that a test can hold it against the kernel, and it gives its reasons in words.
//
// A World is what is known of the cluster. Explain follows a new connection through the nodes that it crosses and
// gives a Side for each check that it meets. Allowed gives the verdict alone. Order lists what applies to an endpoint.
//
// It speaks of packets as policies see them, after the translation of services' addresses, and of first packets:
// what belongs to an established connection passes.
//
// Open path.go first (what a flow meets), then side.go (tiers, policies and profiles) and rule.go (one rule).
package explain
