// SPDX-License-Identifier: Apache-2.0

// Package lab builds small networks of hosts, switches and routers from network namespaces, runs
// the real binaries in them and attaches pods by exec'ing the real CNI plugin, as a runtime would.
// It runs inside test/lab/sandbox, which removes everything when the program ends in whatever way.
//
// A host has its own network, mount and UTS namespace, and its own empty directories where korat
// keeps files, so that the default paths work as on a machine; the rest of the file system is the
// machine's. All hosts of a lab share one pid namespace, the kernel's modules and clock, and the size
// of the neighbour tables: net.ipv4.neigh.default.gc_thresh3 [1024] counts the entries of every
// namespace of the machine together, so that a lab of hundreds of pods needs a higher one.
//
// Read lab.go first, then host.go; cluster.go is the network that the demo and most tests use.
package lab
