// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"net/netip"
	"testing"
)

// A node is lost, and another machine is set up under its name with another address. It takes over the node's blocks; what
// the lost one's pods had stays theirs until a later start: the lost one may only have been cut off.
func TestNodeAddedAgainWithAnotherAddress(t *testing.T) {
	lost := newWorld(t)
	n := lost.start()
	old := n.attach("old")
	lost.until("the node is registered", func() bool { return lost.registered() == "192.168.100.100/24" })
	lost.published(1)
	n.stop()

	w := newWorld(t)
	w.store = lost.store
	link := w.kernel.host.Links["eth0"]
	link.Addresses = []netip.Prefix{netip.MustParsePrefix("192.168.100.101/24")}
	w.kernel.addLink("eth0", link)
	n = w.start()
	w.later(2 * addressPatience)
	n.untilReady()
	w.until("the node has its new address", func() bool { return w.registered() == "192.168.100.101/24" })
	asked := request("c2", "asks")
	asked.Addresses = old.Addresses
	if _, err := n.ask(asked); err == nil {
		t.Errorf("%s was given to another pod", old.Addresses[0])
	}
	ep := n.attach("new")
	if ep.Addresses[0] == old.Addresses[0] {
		t.Errorf("%s was given twice", old.Addresses[0])
	}
	w.published(2)
	if have := w.holder(old.Addresses[0]); have != old.Handle() {
		t.Errorf("%s is held by %q", old.Addresses[0], have)
	}
	blocks, err := inquire(t.Context(), n.Agent, func() []netip.Prefix { return n.at.alloc.Blocks() })
	if err != nil || len(blocks) != 1 || !blocks[0].Contains(old.Addresses[0]) {
		t.Errorf("blocks %v: want the lost one's", blocks)
	}

	w.alias(ep)
	n.stop()
	n = w.start()
	n.untilReady()
	w.published(1)
	if have := w.holder(ep.Addresses[0]); have != ep.Handle() {
		t.Errorf("%s is held by %q", ep.Addresses[0], have)
	}
}
