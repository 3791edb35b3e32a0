// SPDX-License-Identifier: Apache-2.0

// Package guest is the part of a benchmark that runs on a lab's host: services in the host's namespaces
// that are called over the process's standard input and output. Durations are taken here, next to what
// they measure; points in time are of CLOCK_MONOTONIC, which all hosts of a machine share, so that
// what one guest begins and another sees can be subtracted. Open serve.go first.
package guest
