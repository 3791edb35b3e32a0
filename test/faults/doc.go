// SPDX-License-Identifier: Apache-2.0

// Package faults has pods come and go on a lab's hosts, as a container runtime does it, while agents, speakers and
// the datastore are killed and restarted; and looks for addresses that two pods have, and for whatever is left of
// pods that are gone. Where and when something is killed follows from a seed.
//
// The tests here do so for a short time. cmd/soak, which hack/soak runs, does so for as long as one likes. Open
// soak.go first, then site.go; remains.go says what counts as a leak.
package faults
