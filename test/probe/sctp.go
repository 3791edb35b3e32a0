// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/binary"
	"hash/crc32"
)

// The numbers of SCTP (RFC 9260).
const (
	protocolSCTP    = 132
	sctpHeader      = 12
	sctpChecksumAt  = 8
	initLength      = 20 // of the chunk, without parameters
	chunkInit       = 1
	chunkInitAck    = 2
	parameterCookie = 7
)

// sctpPacket is one that carries an INIT or INIT ACK chunk.
type sctpPacket struct {
	source, destination uint16
	// verification is 0 in a packet with INIT, and the INIT's own tag in the answer. Connection tracking drops others.
	verification uint32
	chunk        uint8
	tag          uint32
}

// bytes gives the packet from SCTP's header on.
func (p sctpPacket) bytes() []byte {
	b := make([]byte, 0, sctpHeader+initLength+8)
	b = binary.BigEndian.AppendUint16(b, p.source)
	b = binary.BigEndian.AppendUint16(b, p.destination)
	b = binary.BigEndian.AppendUint32(b, p.verification)
	b = append(b, 0, 0, 0, 0) // the checksum
	length := uint16(initLength)
	if p.chunk == chunkInitAck {
		length += 8
	}
	b = append(b, p.chunk, 0)
	b = binary.BigEndian.AppendUint16(b, length)
	b = binary.BigEndian.AppendUint32(b, p.tag)
	b = binary.BigEndian.AppendUint32(b, 1<<16) // the receiver's window
	b = binary.BigEndian.AppendUint16(b, 1)     // streams out
	b = binary.BigEndian.AppendUint16(b, 1)     // and in
	b = binary.BigEndian.AppendUint32(b, p.tag) // the first TSN may be the tag
	if p.chunk == chunkInitAck {
		b = append(b, 0, parameterCookie, 0, 8, 'k', 'o', 'r', 'a') // it must have a cookie
	}
	// The CRC goes by bits into the packet, which puts its bytes the other way round (RFC 9260, appendix A).
	binary.LittleEndian.PutUint32(b[sctpChecksumAt:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// readSCTP gives a packet whose first chunk is INIT or INIT ACK.
func readSCTP(b []byte) (sctpPacket, bool) {
	if len(b) < sctpHeader+initLength {
		return sctpPacket{}, false
	}
	p := sctpPacket{
		source: binary.BigEndian.Uint16(b), destination: binary.BigEndian.Uint16(b[2:]), verification: binary.BigEndian.Uint32(b[4:]),
		chunk: b[sctpHeader], tag: binary.BigEndian.Uint32(b[sctpHeader+4:]),
	}
	return p, p.chunk == chunkInit || p.chunk == chunkInitAck
}
