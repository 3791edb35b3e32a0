// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"net/netip"

	"korat/policy/compile"
	"korat/policy/policytest"
)

type (
	packet = policytest.Packet
	kernel = policytest.Machine
	hook   = policytest.Hook
)

const (
	fell     = policytest.Fell
	accepted = policytest.Accepted
	dropped  = policytest.Dropped
)

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, s := range texts {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

// must takes no error.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // a value that a test spells wrongly is a fault of the test
	}
	return v
}

// dump writes everything.
func dump(c *compile.Compiler) string {
	return policytest.Chains(c.Chains(), policytest.Every) + policytest.Sets(c)
}
