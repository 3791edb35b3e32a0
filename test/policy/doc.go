// SPDX-License-Identifier: Apache-2.0

// Package policy holds the real agents, koratctl and the kernel against the scenarios of test/scenario: after each step,
// every flow between nine pods and their two hosts passes or does not, as the scenario wants, and does so again.
//
// All scenarios have one lab, with IPv4 and IPv6, one after the other; each undoes what it has done. A scenario alone:
//
//	go test ./test/policy -run TestScenarios/named-port
//
// Read world_test.go first.
package policy
