// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"korat/felix/dataplane"
)

// testDevices knows two interfaces and asks no kernel.
func testDevices() *devices {
	return &devices{fd: -1, indexes: map[string]uint32{"eth0": 2, "eth1": 3}, names: map[uint32]string{2: "eth0", 3: "eth1", 0: ""}}
}

func TestRouteMessageRoundTrip(t *testing.T) {
	hops := []dataplane.NextHop{{Device: "eth1"}, {Device: "eth0", Gateway: netip.MustParseAddr("192.0.2.1")}}
	for _, r := range []dataplane.Route{
		{NextHops: hops[:1]},
		{NextHops: hops[1:]},
		{NextHops: hops},
		{Type: dataplane.Blackhole},
		{NextHops: hops, Source: netip.MustParseAddr("192.0.2.9")},
	} {
		prefix := netip.MustParsePrefix("10.0.1.0/24")
		var b buffer
		if err := encodeRoute(&b, prefix, r, testDevices()); err != nil {
			t.Fatal(err)
		}
		b.end(1)
		for m := range messages(b.b) {
			k, ok := decodeRoute(m.body, unix.AF_INET)
			if !ok || k.prefix != prefix || k.Protocol != Protocol || !k.atOurMetric() {
				t.Errorf("%v: decoded as %+v", r, k)
			}
			if have := k.route(testDevices(), new(hopSlab), false); !have.Equal(r) {
				t.Errorf("have %v, want %v", have, r)
			}
		}
	}
}

func TestErrorOf(t *testing.T) {
	attr := func(b *buffer) { b.attrString(unix.NLMSGERR_ATTR_MSG, "because") }
	body := func(code int32, header, request int, fill func(*buffer)) []byte {
		var b buffer
		b.b = native.AppendUint32(b.b, uint32(code))
		if header > 0 {
			b.b = native.AppendUint32(b.b, uint32(header+request))
			b.b = append(b.b, make([]byte, header-4+request)...)
		}
		fill(&b)
		return b.b
	}
	const tlvs, capped = unix.NLM_F_ACK_TLVS, unix.NLM_F_ACK_TLVS | unix.NLM_F_CAPPED
	for _, c := range []struct {
		m    message
		want string
	}{
		{message{typ: unix.NLMSG_ERROR, body: body(0, 16, 0, func(*buffer) {})}, ""},
		{message{typ: unix.NLMSG_DONE, body: body(0, 0, 0, func(*buffer) {})}, ""},
		{message{typ: unix.NLMSG_ERROR, body: body(-int32(unix.ENODEV), 16, 0, func(*buffer) {})}, "no such device"},
		{message{typ: unix.NLMSG_ERROR, flags: capped, body: body(-int32(unix.ENODEV), 16, 0, attr)}, "no such device (because)"},
		{message{typ: unix.NLMSG_ERROR, flags: tlvs, body: body(-int32(unix.ENODEV), 16, 40, attr)}, "no such device (because)"},
		{message{typ: unix.NLMSG_DONE, flags: tlvs, body: body(-int32(unix.EINVAL), 0, 0, attr)}, "invalid argument (because)"},
		{message{typ: unix.NLMSG_ERROR, flags: tlvs, body: []byte{0xea}}, ""},
	} {
		have := ""
		if err := errorOf(c.m); err != nil {
			have = err.Error()
		}
		if diff := cmp.Diff(c.want, have); diff != "" {
			t.Errorf("%+v: want (-), have (+):\n%s", c.m, diff)
		}
	}
}

// FuzzDecode: whatever comes in, nothing panics or loops.
func FuzzDecode(f *testing.F) {
	var b buffer
	hops := []dataplane.NextHop{{Device: "eth1"}, {Device: "eth0", Gateway: netip.MustParseAddr("192.0.2.1")}}
	if err := encodeRoute(&b, netip.MustParsePrefix("10.0.1.0/24"), dataplane.Route{NextHops: hops}, testDevices()); err != nil {
		f.Fatal(err)
	}
	b.end(1)
	encodeLink(&b, "eth0", dataplane.Link{Up: true, MTU: 1400})
	b.end(2)
	key := dataplane.NeighbourKey{Device: "eth0", Address: netip.MustParseAddr("192.0.2.1")}
	if err := encodeNeighbour(&b, key, dataplane.Neighbour{MAC: "02:00:00:00:00:01"}, testDevices()); err != nil {
		f.Fatal(err)
	}
	b.end(3)
	f.Add(b.b)
	f.Fuzz(func(_ *testing.T, data []byte) {
		n := &notices{own: &conn{}, links: map[uint32]kernelLink{2: {name: "cali1"}}}
		p := newNotice()
		for m := range messages(data) {
			n.hear(&p, m)
			_ = errorOf(m)
			for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
				if r, ok := decodeRoute(m.body, family); ok {
					_ = r.route(testDevices(), new(hopSlab), false)
				}
			}
		}
	})
}
