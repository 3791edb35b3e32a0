// SPDX-License-Identifier: Apache-2.0

// Package kernel is the edge to this node's kernel: the only user of netlink, sysctl and iptables besides the
// CNI plugin. It has one reconcile.Table per kernel table, Observe for what is not ours, and notices
// of changes that somebody else made. It decides nothing: what the kernel should hold is felix/calc's.
//
// A Handle is bound to the network namespace that it was opened in; no goroutine ever changes its
// own. Interface names are resolved to indexes when a message is written, and back when one is read.
//
// Ours are routes and neighbour entries with the protocol number Protocol, so that a restarted agent
// with no memory recognises them; links, sysctls, IP sets and chains are keyed by names that are ours, and rules
// carry IDs. The connection tracking's flows are nobody's: Conntrack deletes those that a policy no longer allows.
// Reports hears what rules report.
//
// Open handle_linux.go first; each table has a file of its own.
package kernel
