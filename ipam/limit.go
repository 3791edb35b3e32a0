// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"

	"korat/api"
)

// limits are what IPAMConfiguration says of claims. They gate claims alone: blocks that a node has stay in use,
// and what holds addresses in use is claimed whatever they say.
type limits struct {
	// most is the number of blocks that a node with as many or more adds none to; 0 is no limit.
	most int
	// none says that no node claims any.
	none bool
}

func limitsIn(snap api.Snapshot) limits {
	obj, ok := snap.IPAMConfigurations.Get(api.DefaultName)
	if !ok {
		return limits{}
	}
	s := obj.Spec
	return limits{most: s.MaxBlocksPerHost, none: s.AutoAllocateBlocks != nil && !*s.AutoAllocateBlocks}
}

// bars says whether a node that has so many blocks, of both families, may claim no other.
func (l limits) bars(blocks int) bool { return l.none || l.most > 0 && blocks >= l.most }

// LimitError says which setting keeps this node from claiming another block.
type LimitError struct {
	// Setting is the field and its value; Remedy what to do about it.
	Setting, Remedy string
	// Own counts this node's blocks; of their Size addresses, Held are in use.
	Own, Size, Held int
}

// Error implements error.
func (e *LimitError) Error() string {
	return fmt.Sprintf("IPAMConfiguration/%s: spec.%s: this node has %d blocks, with %d of %d addresses in use: %s, or remove pods",
		api.DefaultName, e.Setting, e.Own, e.Held, e.Size, e.Remedy)
}

// Is matches ErrNoAddress.
func (e *LimitError) Is(target error) bool { return target == ErrNoAddress }

// barred says why this node may claim no other block; nil if it may.
func (a *Allocator) barred() error {
	l := limitsIn(a.snap)
	own := a.blocks.own()
	if !l.bars(len(own)) {
		return nil
	}
	e := &LimitError{Own: len(own), Setting: fmt.Sprintf("maxBlocksPerHost %d reached", l.most), Remedy: "raise it"}
	if l.none {
		e.Setting, e.Remedy = "autoAllocateBlocks is false, so that no block is claimed", "set it to true"
	}
	for _, o := range own {
		if o.block != nil {
			e.Size += o.block.Size()
			e.Held += o.block.Held()
		}
	}
	return e
}
