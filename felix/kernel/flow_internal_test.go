// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink/nl"

	"korat/policy"
)

// A flow that another one has announced tells which.
func TestMasterOfFlow(t *testing.T) {
	tuple := func(from, to string, port uint16) Tuple {
		return Tuple{Source: netip.MustParseAddr(from), Destination: netip.MustParseAddr(to), SourcePort: 40000, DestinationPort: port}
	}
	control, data := tuple("10.0.1.2", "10.0.2.2", 21), tuple("10.0.2.2", "10.0.1.2", 5000)
	for name, master := range map[string]Start{"none": {}, "of TCP": {policy.TCP, control}} {
		var b buffer
		b.raw(make([]byte, netfilterHeader))
		put := func(kind uint16, p policy.Protocol, of Tuple) {
			at := b.open(kind | nested)
			encodeTuple(&b, p, of)
			b.close(at)
		}
		put(nl.CTA_TUPLE_ORIG, policy.TCP, data)
		put(nl.CTA_TUPLE_REPLY, policy.TCP, tuple("10.0.1.2", "10.0.2.2", 5001))
		if master != (Start{}) {
			put(ctaTupleMaster, master.Protocol, master.Tuple)
		}
		f, ok := decodeFlow(b.b)
		if !ok || f.Original != data {
			t.Errorf("%s: decoded as %v", name, f)
		}
		if diff := cmp.Diff(master, f.Master, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("%s: (-want +have)\n%s", name, diff)
		}
	}
}
