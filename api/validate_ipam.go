// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// maxBlockBits bounds a block to 4096 addresses, as each has an entry in the IPAMBlock.
const maxBlockBits = 12

// maxIPCooldownSeconds is Calico's bound.
const maxIPCooldownSeconds = 1200

// blockSizes gives the prefix lengths that blocks of the address's family may have: 20..32 or 116..128.
func blockSizes(addr netip.Addr) (least, most int) {
	return addr.BitLen() - maxBlockBits, addr.BitLen()
}

// examplePool gives a range of the pool's family that pods can have.
func examplePool(pool netip.Prefix) string {
	if pool.Addr().Is4() {
		return "172.17.0.0/16"
	}
	return "fd00:10:244::/48"
}

func (c *checker) ipPool(s *IPPoolSpec) {
	pool, ok := c.prefix("spec.cidr", s.CIDR)
	if ok {
		c.poolRange(s.CIDR, pool)
	}
	if pool.IsValid() {
		c.blockSize(s.BlockSize, pool) // also of a CIDR that is wrong otherwise
	}
	c.oneOf("spec.ipipMode", s.IPIPMode, EncapNever)
	c.oneOf("spec.vxlanMode", s.VXLANMode, EncapNever)
	c.nodeSelector("spec.nodeSelector", s.NodeSelector)
	c.oneOf("spec.namespaceSelector", s.NamespaceSelector, SelectAll)
	if len(s.AllowedUses) == 0 {
		c.fail("spec.allowedUses", s.AllowedUses, "must hold %s, %s or both", UseWorkload, UseTunnel)
	}
	for i, use := range s.AllowedUses {
		c.oneOf(index("spec.allowedUses", i), use, UseWorkload, UseTunnel)
		if slices.Contains(s.AllowedUses[:i], use) {
			c.fail(index("spec.allowedUses", i), use, "is listed twice: remove one")
		}
	}
	c.oneOf("spec.assignmentMode", s.AssignmentMode, AssignAutomatic, AssignManual)
}

func (c *checker) ipamConfiguration(s *IPAMConfigurationSpec) {
	if n := s.IPCooldownSeconds; n != nil && (*n < 0 || *n > maxIPCooldownSeconds) {
		c.fail("spec.ipCooldownSeconds", *n, "must be 0..%d: 0 assigns released addresses again at once", maxIPCooldownSeconds)
	}
	if s.MaxBlocksPerHost < 0 {
		c.fail("spec.maxBlocksPerHost", s.MaxBlocksPerHost, "must be the most blocks that a node may have, or 0 for no limit")
	}
	if s.AutoAllocateBlocks != nil && !*s.AutoAllocateBlocks && s.StrictAffinity != nil && !*s.StrictAffinity {
		c.fail("spec.autoAllocateBlocks", false, "must be true while spec.strictAffinity is false: a node without blocks of its own would borrow all its addresses")
	}
}

func (c *checker) blockSize(size int, pool netip.Prefix) {
	least, most := blockSizes(pool.Addr())
	switch {
	case size < least || size > most:
		c.fail("spec.blockSize", size, "must be %d..%d", least, most)
	case size < pool.Bits():
		c.fail("spec.blockSize", size, "blocks must fit into the pool %s: use %d..%d", pool, max(pool.Bits(), least), most)
	}
}

// poolRange refuses ranges whose addresses no pod can use.
func (c *checker) poolRange(value string, pool netip.Prefix) {
	for _, reserved := range []struct{ cidr, what string }{
		{"0.0.0.0/8", `"this network" (RFC 6890)`},
		{"127.0.0.0/8", "loopback"},
		{"169.254.0.0/16", "link-local, where the pods' gateway 169.254.1.1 is"},
		{"224.0.0.0/4", "multicast"},
		{"240.0.0.0/4", "reserved (RFC 1112) and the broadcast address"},
		{"::/8", "reserved (RFC 4291), with loopback and the IPv4-mapped addresses"},
		{"fe80::/10", "link-local, where the pods' gateway fe80::ecee:eeff:feee:eeee is"},
		{"ff00::/8", "multicast"},
	} {
		if pool.Overlaps(netip.MustParsePrefix(reserved.cidr)) {
			c.fail("spec.cidr", value, "must not overlap %s, which is %s: use a unicast range such as %q", reserved.cidr, reserved.what, examplePool(pool))
			return
		}
	}
}

func (c *checker) blockAffinity(s *BlockAffinitySpec) {
	c.oneOf("spec.state", s.State, AffinityPending, AffinityConfirmed, AffinityPendingDeletion)
	c.oneOf("spec.type", s.Type, AffinityHost)
	c.onNode(s.Node)
	if block, ok := c.prefix("spec.cidr", s.CIDR); ok {
		if want := AffinityName(s.Node, block); c.key.Name != want {
			c.fail("metadata.name", c.key.Name, "must be %q for this node and CIDR", want)
		}
	}
}

func (c *checker) ipamBlock(s *IPAMBlockSpec) {
	block, ok := c.prefix("spec.cidr", s.CIDR)
	if !ok {
		return
	}
	if least, most := blockSizes(block.Addr()); block.Bits() < least {
		c.fail("spec.cidr", s.CIDR, "must be a block of /%d../%d", least, most)
		return
	}
	if want := BlockName(block); c.key.Name != want {
		c.fail("metadata.name", c.key.Name, "must be %q for this CIDR", want)
	}
	if s.Affinity != nil {
		node, isHost := strings.CutPrefix(*s.Affinity, blockAffinityPrefix)
		if !isHost || !isSubdomain(node) {
			c.fail("spec.affinity", *s.Affinity, `must be "host:" and a node's name`)
		}
	}
	c.allocations(s, 1<<(block.Addr().BitLen()-block.Bits()))
}

// allocations checks that each ordinal of the block is either free or has an attribute, never both.
func (c *checker) allocations(s *IPAMBlockSpec, size int) {
	if len(s.Allocations) != size {
		c.fail("spec.allocations", len(s.Allocations), "must have one entry for each of the block's %d addresses", size)
		return
	}
	free := 0
	for ordinal, attribute := range s.Allocations {
		if attribute == nil {
			free++
		} else if *attribute < 0 || *attribute >= len(s.Attributes) {
			c.fail(index("spec.allocations", ordinal), *attribute, "must be an index into spec.attributes, which has %d entries", len(s.Attributes))
		}
	}
	seen := make([]bool, size)
	for i, ordinal := range s.Unallocated {
		field := index("spec.unallocated", i)
		switch {
		case ordinal < 0 || ordinal >= size:
			c.fail(field, ordinal, "must be an ordinal of the block, 0..%d", size-1)
		case seen[ordinal]:
			c.fail(field, ordinal, "is listed twice: remove one")
		case s.Allocations[ordinal] != nil:
			c.fail(field, ordinal, "is allocated: remove it here, or set spec.allocations[%d] to null", ordinal)
		default:
			seen[ordinal] = true
			free--
		}
	}
	if free != 0 {
		c.fail("spec.unallocated", len(s.Unallocated), "must list every free ordinal: %d are missing", free)
	}
	for key := range s.SequenceNumberForAllocation {
		if n, err := strconv.Atoi(key); err != nil || n < 0 || n >= size || strconv.Itoa(n) != key {
			c.fail("spec.sequenceNumberForAllocation", key, "must be keyed by ordinals of the block, 0..%d", size-1)
		}
	}
}
