// SPDX-License-Identifier: Apache-2.0

// Package demo brings up a cluster with pods and shows that they reach each other: routes, sessions,
// a ping matrix, and how long each step took; and then that policies keep some from others (act.go). test/lab/cmd/lab
// calls it; run.go is its order.
package demo
