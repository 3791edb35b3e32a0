// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"korat/felix/dataplane"
	"korat/felix/kernel"
)

// What is put together from notices is what the kernel has, whatever others do.
func TestObserveAfter(t *testing.T) {
	h := newHost(t)
	handle := h.open()
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	actions := []string{
		"link add x%d type veth peer name y%d", "link delete x%d", "link set x%d up", "link set x%d down", "link set y%d up",
		"link set x%d mtu 1300", "link set x%d up alias some" /* of a link that is down the kernel does not tell */, "link set x%d name y%d", "link property add dev x%d altname z%d",
		"address add 198.51.100.%d/24 dev x1", "address delete 198.51.100.%d/24 dev x1", "address add fd00::%d/64 dev x1 nodad",
		"address add 203.0.113.%d/28 dev eth0", "address flush dev eth0 to 203.0.113.%d/28",
		"route add default via 192.0.2.%d", "route delete default via 192.0.2.%d",
	}
	have := observe(t, handle)
	// The default route goes with its link or address, and the kernel does not say so.
	for _, loss := range []string{"link set eth0 down", "address flush dev eth0"} {
		h.Batch("link set eth0 up", "address replace 192.0.2.10/24 dev eth0", "route add default via 192.0.2.1")
		have = follow(t, handle, have)
		h.Batch(loss)
		if have = follow(t, handle, have); have.DefaultRoute {
			t.Errorf("%s: the default route is still seen", loss)
		}
	}
	h.Batch("link set eth0 up", "address replace 192.0.2.10/24 dev eth0")
	for step := range 150 {
		for range 1 + random.IntN(4) {
			words := strings.Fields(actions[random.IntN(len(actions))])
			n := 1 + random.IntN(3)
			for i, w := range words {
				if strings.Contains(w, "%d") {
					words[i] = fmt.Sprintf(w, n)
				}
			}
			// Whether there was something to change or not doesn't matter.
			_, _ = h.Try(append([]string{"ip"}, words...)...)
		}
		if have = follow(t, handle, have); t.Failed() {
			t.Fatalf("seed %d, step %d", seed, step)
		}
	}
	if have = observeAfter(t, handle, dataplane.Host{}, kernel.Notice{}); len(have.Links) < 3 {
		t.Errorf("without an earlier picture: have %v", have)
	}
}

func observeAfter(t *testing.T, h *kernel.Handle, before dataplane.Host, n kernel.Notice) dataplane.Host {
	t.Helper()
	host, err := h.ObserveAfter(t.Context(), before, n)
	if err != nil {
		t.Fatal(err)
	}
	return host
}

// follow takes notices until the picture is the kernel's.
func follow(t *testing.T, h *kernel.Handle, have dataplane.Host) dataplane.Host {
	t.Helper()
	limit := time.After(10 * time.Second)
	for {
		n := h.Drain()
		if n.Lost {
			t.Fatal("notices were lost")
		}
		have = observeAfter(t, h, have, n)
		want := observe(t, h)
		if have.Equal(want) {
			return have
		}
		select {
		case <-h.Wake():
		case <-limit:
			t.Errorf("have %+v\nwant %+v", have, want)
			return have
		}
	}
}
