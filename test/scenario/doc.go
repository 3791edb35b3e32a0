// SPDX-License-Identifier: Apache-2.0

// Package scenario tells what Kubernetes' network policies must make of the flows between nine pods: a, b and c in each
// of the namespaces x, y and z, on two hosts, at ports 80 and 81 by TCP, UDP and SCTP. It is values alone. Its own test
// holds policy/explain against them; test/policy makes the pods and holds the kernel against them.
//
// A file of testdata is a scenario: sections that are done in turn, and what must hold then.
//
//   - apply: manifests. $(x/a), $(host/a), $(pods/a), $(pods) and $(all) stand for the CIDRs of a pod, a host, a host's
//     pods, all pods and the family.
//   - delete: policies by their names, "x/deny".
//   - label: "pod x/a role=web old-" or "namespace x team=blue old-".
//   - want: what passes. Everything does but for its lines, of which the last that concerns a flow counts: "deny *, y/* ->
//     x/a 80/TCP 81". The ends are as x/a, x/*, */a, pods, host/a, host/* and *; a port without protocol is of all three,
//     and a protocol without port of both.
//
// No line says what no policy can change: a pod reaches itself, and a host the hosts and its own pods.
//
// Read scenario.go first.
package scenario
