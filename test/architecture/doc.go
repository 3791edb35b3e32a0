// SPDX-License-Identifier: Apache-2.0

// Package architecture holds the code against the rules of ARCHITECTURE.md: which package may import
// what, and how long files, functions, structs and parameter lists may be. The rules are data in
// rules.go; Imports and Sizes are functions over what they are given, so that the test can also
// plant a violation and see it reported.
package architecture
