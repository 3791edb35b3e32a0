// SPDX-License-Identifier: Apache-2.0

package compile

import "korat/policy/chain"

// Size is how much there is, as of the last Update.
type Size struct {
	// Policies are those that apply to an endpoint of this node; the others have no chains.
	Policies      int
	Chains, Rules int
	Sets, Members int
}

// Size counts. It costs nothing.
func (c *Compiler) Size() Size {
	return Size{
		Policies: c.active, Chains: len(c.board.chains), Rules: c.board.rules,
		Sets: len(c.members.sets), Members: c.members.size,
	}
}

func rulesIn(c *chain.Chain) int {
	if c == nil {
		return 0
	}
	return len(c.Rules) + len(c.Last)
}

// count notes that a policy has come to apply to an endpoint, or has ceased to.
func (c *Compiler) count(s *source, by int) {
	if s.policy != nil {
		c.active += by
	}
}
