// SPDX-License-Identifier: Apache-2.0

package differential

import "korat/bgp"

// silent is a speaker without peers.
type silent struct{}

func (silent) Want(bgp.Plan, bool)   {}
func (silent) RIB() bgp.RIB          { return bgp.RIB{Running: true, Complete: true} }
func (silent) Err() error            { return nil }
func (silent) Wake() <-chan struct{} { return nil }
