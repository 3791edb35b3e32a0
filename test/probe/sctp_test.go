// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/hex"
	"hash/crc32"
	"testing"
)

func TestSCTP(t *testing.T) {
	for want, p := range map[string]sctpPacket{
		"27100050" + "00000000" + "########" + "01000014" + "00010203" + "00010000" + "0001" + "0001" + "00010203":                                                   {10000, 80, 0, chunkInit, 0x10203},
		"00502710" + "00010203" + "########" + "0200001c" + "80010203" + "00010000" + "0001" + "0001" + "80010203" + "00070008" + hex.EncodeToString([]byte("kora")): {80, 10000, 0x10203, chunkInitAck, 0x80010203},
	} {
		b := p.bytes()
		have := hex.EncodeToString(b)
		if have := have[:16] + "########" + have[24:]; have != want {
			t.Errorf("have %s, want %s", have, want)
		}
		if back, ok := readSCTP(b); !ok || back != p {
			t.Errorf("%s is read as %+v", have, back)
		}
		// A CRC over the data and itself, in the order of its bits, is always the same.
		all := append(append(b[:sctpChecksumAt:sctpChecksumAt], 0, 0, 0, 0), b[sctpChecksumAt+4:]...)
		all = append(all, b[sctpChecksumAt:sctpChecksumAt+4]...)
		if have := crc32.Checksum(all, crc32.MakeTable(crc32.Castagnoli)); have != 0x48674bc7 {
			t.Errorf("CRC32c with itself: %#x", have)
		}
	}
	if _, ok := readSCTP(make([]byte, sctpHeader+initLength-1)); ok {
		t.Error("a short packet is read")
	}
}
