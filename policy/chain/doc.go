// SPDX-License-Identifier: Apache-2.0

// Package chain has the kernel's packet filter as values: chains of rules, each a list of conditions and an
// action. It says nothing of how they are written; policy/render makes iptables' text of them, and a renderer for
// nftables could stand beside that.
//
// A rule has an ID, which is a hash of what it says, in whatever order. The kernel's rule carries it in its comment, or
// says nothing but what it can be taken from.
package chain
