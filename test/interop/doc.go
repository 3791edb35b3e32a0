// SPDX-License-Identifier: Apache-2.0

// Package interop holds tests of the real binaries against programs of others: BIRD as a node of the
// mesh, the stock gobgp CLI on the speaker's socket, cnitool as a runtime and the reference plugins
// chained after ours. hack/ensure-tools interop installs them; nothing of them runs outside the lab.
//
// As in package e2e, tests wait for conditions and never assert how long something takes.
//
// Read world_test.go first; bird_test.go is how a host of the lab runs BIRD.
package interop
