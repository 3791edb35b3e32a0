// SPDX-License-Identifier: Apache-2.0

// Package policy is what policies mean, whatever kind of object they were written as: the kinds of api become
// one model here, of Tiers, Policies, Profiles and Rules. All below it is pure:
//
//	selector  Calico's selector language
//	index     who is selected, kept while endpoints and selectors come and go
//	compile   Policies and the node's endpoints → chains and sets
//	chain     chains and rules as values
//	render    chains → the text that iptables-restore reads
//	explain   a second evaluator of the same model, which says why
//
// Of, ProfileOf, TierOf and ItemOf make the model of objects: calico.go, kubernetes.go and cluster.go say what their kinds
// mean. What was never validated fails closed there: of.go says how.
//
// It decides nothing of the kernel: felix/kernel writes, and felix/calc asks. Open policy.go first.
package policy
