// SPDX-License-Identifier: Apache-2.0

// Package e2e holds tests of the real binaries on the hosts of package lab: what an operator sees,
// breaks and types. Each test makes a cluster of its own; they need root and hack/build.
//
// Nothing here asserts how long something takes. Tests wait for conditions, and a bound on the
// waiting is only there to end a test that has failed. Agents compare themselves with the kernel in full
// only every resync-interval, which is longer than that bound: a repair seen here follows a notice of
// the kernel's.
//
// Read world_test.go first.
package e2e
