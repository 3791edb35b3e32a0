// SPDX-License-Identifier: Apache-2.0

// Package probe asks which ports can be reached from where, thousands at once, in this process: by new connections of TCP
// from sockets in the network namespaces of those that ask, by packets of UDP, and by INIT chunks of SCTP from raw sockets,
// as not every kernel has SCTP. At the other end each Place answers all of them.
//
// Each question has a source port of its own, so that nothing passes as part of an earlier connection.
//
// Open probe.go first, then round_linux.go.
package probe
