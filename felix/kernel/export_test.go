// SPDX-License-Identifier: Apache-2.0

package kernel

import "time"

// SetPatience changes how long the programs are waited for from now on: a short patience is for those that must not answer, as
// the others may be slow on a busy machine.
func (t *Chains) SetPatience(d time.Duration) {
	for _, s := range t.sides {
		s.config.Patience = d
	}
}
