// SPDX-License-Identifier: Apache-2.0

package api

// PoolFinalizer keeps an IPPool that is being deleted for as long as it has blocks.
const PoolFinalizer = "korat.io/blocks"

// Terminating says whether the pool is being deleted: it gives out no more addresses, and goes with its last block.
func (p *IPPool) Terminating() bool { return p.DeletionTimestamp != nil }
