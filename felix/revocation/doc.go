// SPDX-License-Identifier: Apache-2.0

// Package revocation ends established flows that policies do not allow any more. The chains let the packets of a known
// connection pass without another look at policies; so whenever policies change, the flows in the kernel's connection
// tracking that this may concern are judged anew, by package explain, and what is denied is ended.
//
// A flow that is deleted from the connection tracking begins anew with its next packet, of either side: an answer of a
// server that may speak to its client opens it again, the other way round, and then the client is let in as one who
// answers. Where policies would allow that, the flow keeps its entry, and gets a mark that the chains know: no packet
// of it passes. Once policies allow the flow again it loses the mark, and goes on if its ends still have it: an entry that
// were deleted then could begin anew with an answer, and what was a service's address would be a pod's.
//
// The agent's loop says what has changed, and goes on: a Revoker works on its own, and one thing at a time. Between two it rests
// for half a second at least: a change that comes alone is followed at once.
//
// Open revoker.go first, then run.go (which flows are looked at) and judge.go (what is asked of explain).
package revocation
