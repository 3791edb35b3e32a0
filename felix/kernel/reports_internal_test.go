// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"korat/api"
	"korat/policy"
)

// packets are the beginnings of packets in hexadecimal, and what is to be read of them.
var packets = map[string]struct{ bytes, want string }{
	"TCP":                  {v4("06", "0000", "5", "9c400050"), "6 10.0.0.1>10.0.0.2 40000>80 length 60"},
	"with IPv4 options":    {strings.Replace(v4("11", "0000", "7", "9c400035"), "0a000002", "0a0000020101010101010101", 1), "17 10.0.0.1>10.0.0.2 40000>53 length 60"},
	"first fragment":       {v4("11", "2000", "5", "9c400035"), "17 10.0.0.1>10.0.0.2 40000>53 length 60"},
	"later fragment":       {v4("11", "2001", "5", "9c400035"), "17 10.0.0.1>10.0.0.2 length 60"},
	"ports cut off":        {v4("06", "0000", "5", "9c40"), "6 10.0.0.1>10.0.0.2 length 60"},
	"header too long":      {v4("06", "0000", "f", "9c400050"), "6 10.0.0.1>10.0.0.2 length 60"},
	"header too short":     {v4("06", "0000", "2", "9c400050"), "6 10.0.0.1>10.0.0.2 length 60"},
	"no ports":             {v4("59", "0000", "5", "9c400050"), "89 10.0.0.1>10.0.0.2 length 60"},
	"ICMP echo":            {v4("01", "0000", "5", "080012340007"+"0001"), "1 10.0.0.1>10.0.0.2 type 8 code 0 id 7 length 60"},
	"ICMP unreachable":     {v4("01", "0000", "5", "030112340007"+"0001"), "1 10.0.0.1>10.0.0.2 type 3 code 1 id 0 length 60"},
	"half a header":        {"450000", "0 invalid IP>invalid IP length 0"},
	"nothing":              {"", "0 invalid IP>invalid IP length 0"},
	"no IP":                {"2500", "0 invalid IP>invalid IP length 0"},
	"IPv6 UDP":             {v6("11", "9c400035"+"00080000"), "17 fd00::1>fd00::2 40000>53 length 60"},
	"IPv6 with extensions": {v6("00", "3c00000000000000"+"3300000000000000"+"06010000"+"00000000"+"00000000"+"9c400050"+"00000000"), "6 fd00::1>fd00::2 40000>80 length 60"},
	"IPv6 first fragment":  {v6("2c", "1100000100000001"+"9c40003500080000"), "17 fd00::1>fd00::2 40000>53 length 60"},
	"IPv6 later fragment":  {v6("2c", "1100000900000001"+"9c40003500080000"), "17 fd00::1>fd00::2 length 60"},
	"IPv6 extension cut":   {v6("00", "06ff000000000000"), "6 fd00::1>fd00::2 length 60"},
	"ICMPv6 echo":          {v6("3a", "8000123400070001"), "58 fd00::1>fd00::2 type 128 code 0 id 7 length 60"},
	"IPv6 half a header":   {"6000", "0 invalid IP>invalid IP length 0"},
}

// v4 is an IPv4 packet with a protocol, flags and fragment's offset, and a header's length in words.
func v4(protocol, fragment, words, rest string) string {
	return "4" + words + "00003c0000" + fragment + "40" + protocol + "0000" + "0a000001" + "0a000002" + rest
}

func v6(next, rest string) string {
	const zeros = "000000000000000000000000"
	return "60000000" + "0014" + next + "40" + "fd00" + zeros + "0001" + "fd00" + zeros + "0002" + rest
}

func TestReportPackets(t *testing.T) {
	for name, c := range packets {
		b, err := hex.DecodeString(c.bytes)
		if err != nil {
			t.Fatal(name, err)
		}
		var r Report
		r.packet(b)
		have := fmt.Sprintf("%d %v>%v", r.Protocol, r.Packet.Source, r.Packet.Destination)
		if r.Packet.SourcePort != 0 {
			have += fmt.Sprintf(" %d>%d", r.Packet.SourcePort, r.Packet.DestinationPort)
		}
		if r.Packet.ICMP != (ICMP{}) {
			have += fmt.Sprintf(" type %d code %d id %d", r.Packet.ICMP.Type, r.Packet.ICMP.Code, r.Packet.ICMP.ID)
		}
		if diff := cmp.Diff(c.want, have+fmt.Sprintf(" length %d", r.Length)); diff != "" {
			t.Errorf("%s: want (-), have (+):\n%s", name, diff)
		}
	}
}

// testReports hears nothing by itself.
func testReports(room int) *Reports {
	return &Reports{reports: make(chan Report, room), done: make(chan struct{}), names: testDevices(), prefixes: map[string]string{}}
}

// testReport appends a report of a packet.
func testReport(b *buffer, seq uint32, prefix string, packet []byte) {
	b.beginNetfilter(unix.NFNL_SUBSYS_ULOG, nflogPacket, 0, unix.AF_INET, 2)
	b.attr(nflogHeader, []byte{8, 0, 2, 0})
	b.attrString(nflogPrefix, prefix)
	b.attrBig32(nflogIn, 2)
	b.attrBig32(nflogOut, 3)
	b.attrBig32(nflogMark, 1)
	b.attr(nflogTimestamp, []byte{0, 0, 0, 0, 0x65, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7})
	b.attrBig32(nflogSequenceNum, seq)
	b.attr(nflogPayload, packet)
	b.end(0)
}

func TestHearReports(t *testing.T) {
	packet, err := hex.DecodeString(packets["TCP"].bytes)
	if err != nil {
		t.Fatal(err)
	}
	r := testReports(3)
	var b buffer
	for _, seq := range []uint32{0, 1, 5} { // 2, 3 and 4 were too many for the kernel
		testReport(&b, seq, "D|abc", packet)
	}
	r.names.fd = -1
	r.hear(b.b)
	if have := [2]uint64{r.Lost(), uint64(len(r.reports))}; have != [2]uint64{3, 3} {
		t.Errorf("lost and held: have %d", have)
	}
	first := <-r.reports
	first.In, first.Out = "", "" // there are no interfaces to ask for
	want := Report{
		Prefix: "D|abc", Hook: HookForward, Protocol: 6, Packet: first.Packet, Length: 60, Mark: 1,
		Time: time.Unix(0x65000000, 7000),
	}
	if first != want {
		t.Errorf("have %+v, want %+v", first, want)
	}
	b.reset()
	testReport(&b, 6, "D|abc", packet)
	testReport(&b, 7, "D|abc", packet)
	r.hear(b.b)
	if have := [2]uint64{r.Lost(), uint64(len(r.reports))}; have != [2]uint64{4, 3} {
		t.Errorf("lost and held after the queue was full: have %d", have)
	}
	for i := range maxPrefixes + 1 {
		r.text(fmt.Appendf(nil, "%d\x00", i))
	}
	if len(r.prefixes) > maxPrefixes || r.text([]byte("x\x00")) != "x" {
		t.Errorf("have %d prefixes", len(r.prefixes))
	}
}

// FuzzDecodeNetfilter: whatever comes in, nothing panics or loops.
func FuzzDecodeNetfilter(f *testing.F) {
	var b buffer
	key := policy.SetKey{Name: "cali40s:x", Family: api.IPv4, Kind: policy.Prefixes}
	if err := encodeSetCreate(&b, key.Name, key, 1, DefaultMaxMembers); err != nil { // it looks like the beginning of a list
		f.Fatal(err)
	}
	b.end(1)
	encodeMembers(&b, nl.IPSET_CMD_ADD, key.Name, key.Kind, []policy.Member{{Prefix: netip.MustParsePrefix("10.0.0.0/8")}})
	b.end(2)
	ends := Tuple{Source: netip.MustParseAddr("10.0.0.1"), Destination: netip.MustParseAddr("10.0.0.2")}
	if err := encodeFlowDelete(&b, Flow{Protocol: policy.TCP, Original: ends, Zone: 1, ID: 1}); err != nil {
		f.Fatal(err)
	}
	b.end(3)
	for _, p := range packets {
		packet, err := hex.DecodeString(p.bytes)
		if err != nil {
			f.Fatal(err)
		}
		testReport(&b, 1, "D|abc", packet)
	}
	f.Add(b.b)
	f.Fuzz(func(_ *testing.T, data []byte) {
		r, s := testReports(100), setReader{maxMembers: DefaultMaxMembers}
		s.start()
		for m := range messages(data) {
			s.message(m)
			_ = errorOf(m)
			flowEnds(m.body)
			if flow, ok := decodeFlow(m.body); ok {
				_ = flow.String()
			}
			r.decode(m.body)
		}
		r.hear(data)
	})
}

// TestReportsEndWithTheReason: who finds that there are no more reports can ask why.
func TestReportsEndWithTheReason(t *testing.T) {
	for range 500 {
		file, other, err := os.Pipe() // nothing can be received from what is no socket
		if err != nil {
			t.Fatal(err)
		}
		r := testReports(1)
		r.file = file
		if r.raw, err = file.SyscallConn(); err != nil {
			t.Fatal(err)
		}
		go r.run(make([]byte, 1))
		for open := true; open; {
			select {
			case _, open = <-r.reports:
			default:
			}
		}
		if err := r.Err(); !errors.Is(err, unix.ENOTSOCK) {
			t.Fatalf("have %v", err)
		}
		if err := errors.Join(r.Close(), other.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// BenchmarkReports is the cost of one report, when it is taken and when it is dropped.
func BenchmarkReports(b *testing.B) {
	packet, err := hex.DecodeString(packets["TCP"].bytes)
	if err != nil {
		b.Fatal(err)
	}
	fd, _, err := socket(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(fd)
	const each = 200
	var datagram buffer
	for i := range each {
		testReport(&datagram, uint32(i), "D|abcdefghijklmnop", append(packet, make([]byte, reportBytes-len(packet))...))
	}
	for name, room := range map[string]int{"taken": each, "dropped": 0} {
		b.Run(name, func(b *testing.B) {
			r := testReports(room)
			r.names.fd = fd
			for i := 0; i < b.N; i += each {
				r.hear(datagram.b)
				for len(r.reports) > 0 {
					<-r.reports
				}
			}
		})
	}
}
