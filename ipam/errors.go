// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// The errors of Assign that callers branch on, with errors.Is.
var (
	// ErrNeedBlock: this node has to claim a block first. Asking again after a later Snapshot may
	// succeed. (*NeedError)
	ErrNeedBlock = errors.New("no block to assign from yet")
	// ErrNoAddress: nothing is free, or the asked address can't be had. (*FullError, *TakenError)
	ErrNoAddress = errors.New("no address")
	// ErrPool: the request names a pool that can't be used, or an address in none. (*PoolError)
	ErrPool = errors.New("pool can't be used")
)

// NeedError says what has to be claimed before the request can be met.
type NeedError struct {
	// Needs is empty while there is nothing to claim from either.
	Needs  []Need
	Reason string
}

// Error implements error.
func (e *NeedError) Error() string { return "no address yet: " + e.Reason }

// Is matches ErrNeedBlock.
func (e *NeedError) Is(target error) bool { return target == ErrNeedBlock }

// FullError says that all blocks of every usable pool are taken, and those of this node are full.
type FullError struct {
	Pools []PoolUse
}

// PoolUse is how full a pool is.
type PoolUse struct {
	Pool
	// Taken counts the pool's blocks that any node owns, Own those of this node; of its Size
	// addresses, Held are in use and Reserved are free but reserved.
	Taken, Own, Size, Held, Reserved int
	// Obstacles belong to hosts: no block is claimed there.
	Obstacles []Obstacle
}

// Error implements error.
func (e *FullError) Error() string {
	parts := make([]string, len(e.Pools))
	for i, p := range e.Pools {
		parts[i] = fmt.Sprintf("pool %q (%s, %s blocks of /%d): %d blocks taken, of which this node has %d with %d of %d addresses in use and %d reserved",
			p.Name, p.CIDR, p.blocks(), p.BlockBits, p.Taken, p.Own, p.Held, p.Size, p.Reserved)
		if len(p.Obstacles) > 0 {
			parts[i] += fmt.Sprintf("; it overlaps %s, where no block is claimed", p.Obstacles[0])
		}
	}
	return "no free address and no free block: " + strings.Join(parts, "; ") + ": add an IPPool or remove pods"
}

// Is matches ErrNoAddress.
func (e *FullError) Is(target error) bool { return target == ErrNoAddress }

// TakenError says why a specific address can't be had.
type TakenError struct {
	Address netip.Addr
	// Handle, Namespace and Pod say who holds it, as far as known. They are empty if Node is set: the address's block
	// belongs to that node.
	Handle, Namespace, Pod string
	Node                   string
}

// Error implements error.
func (e *TakenError) Error() string {
	switch {
	case e.Node != "":
		return fmt.Sprintf("address %s: its block belongs to node %q: run the pod there or ask for another address", e.Address, e.Node)
	case e.Pod != "":
		return fmt.Sprintf("address %s is in use by pod %s/%s (handle %q)", e.Address, e.Namespace, e.Pod, e.Handle)
	default:
		return fmt.Sprintf("address %s is in use by handle %q", e.Address, e.Handle)
	}
}

// Is matches ErrNoAddress.
func (e *TakenError) Is(target error) bool { return target == ErrNoAddress }

// PoolError says why a pool, or the lack of one, rules the request out.
type PoolError struct {
	// What is the pool or address of the request.
	What, Reason string
}

// Error implements error.
func (e *PoolError) Error() string { return e.What + ": " + e.Reason }

// Is matches ErrPool.
func (e *PoolError) Is(target error) bool { return target == ErrPool }
