// SPDX-License-Identifier: Apache-2.0

// Package render writes chains as the text that iptables-restore --noflush reads, and sets as ipset's. A rule has a
// comment "cali:<ID>", by which it is known again without being parsed, and behind the ID what is for people. In our own
// chains, and of those that lead there, rules that have nothing for people go without if their text gives the ID again
// (plain.go). Nothing reaches the text unchecked: what iptables would misread is an error, and in comments it is replaced.
//
// Transaction has the fewest changes that turn the chains of a table into those wanted. Open rule.go first.
package render
