// SPDX-License-Identifier: Apache-2.0

// Package bench measures korat against others' programs, or against the least that the kernel allows,
// on hosts of test/lab. What is compared runs in turns in one run (A B A B…), and the ratio of the
// medians is what counts: absolute times say more about the machine than about the program.
//
// A benchmark is one file with a function from Suite to Rows; suite.go has all of them and the targets
// are beside what they are for. What has to happen on a host, such as exec'ing a plugin without nsenter
// before it, is done by a guest: this program again, in the host's namespaces (package guest).
package bench
