// SPDX-License-Identifier: Apache-2.0

// Package differential holds what policies come to in the kernel against what package policy/explain says of them.
// Policies, labels and flows are random, and follow from a seed.
//
// A Site is one host with pods, each a network namespace, and an agent that keeps the host's kernel as the objects in
// its datastore want it. A Wire sends packets there, from the pods, from the host and from outside, and tells which of
// them came through: as whole bursts, in the same thread, with no process, timer or connection for a flow.
//
// The objects are made by the random… files, as a user would write them: each is valid, and goes through a manifest.
//
// TestVerdicts compares thousands of flows in each of many worlds. TestUpdates changes one thing after the other, or some
// at one moment, under traffic: a window is from before an update to after it. Of each packet in it that both the old and
// the new policy say the same of, that is what becomes of it, be it a new connection's or an established one's; and after it
// the new policy's verdict is on every packet, on those of established connections as soon as the agent has cut them.
// Open site.go, then wire_linux.go.
package differential
