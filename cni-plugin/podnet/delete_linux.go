// SPDX-License-Identifier: Apache-2.0

package podnet

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"korat/felix/endpoint"
)

// Delete removes the attachment's pair, found from the pod's side or by the host's name. That the
// namespace, the interface or both are gone is success, and so is finding only what belongs to others.
// The kernel waits for RCU in it, for some 10 ms.
func Delete(id endpoint.ID, netNS, hostIf string) error {
	if netNS != "" {
		if err := deleteFrom(id, netNS); err != nil {
			return err
		}
	}
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer host.Close()
	link, err := linkByName(host, hostIf)
	if err != nil || link == nil {
		return err
	}
	// The pod's next container may have the name already: only the alias tells.
	if alias, err := endpoint.ParseAlias(link.Attrs().Alias); err != nil || link.Type() != "veth" || !alias.Is(id) {
		return nil
	}
	return remove(host, link)
}

// deleteFrom removes the pair whose pod side is in the namespace.
func deleteFrom(id endpoint.ID, netNS string) error {
	e, err := openEdge(netNS)
	if errors.Is(err, ErrNoNetNS) || errors.Is(err, ErrNotNetNS) {
		return nil // its interfaces went with it
	}
	if err != nil {
		return err
	}
	defer e.close()
	pod, err := linkByName(e.pod, id.IfName)
	if err != nil || pod == nil {
		return err
	}
	host, err := e.peerOf(pod)
	if err != nil || host == nil {
		return err
	}
	alias, err := endpoint.ParseAlias(host.Attrs().Alias)
	if err == nil && alias.Is(id) || halfMade(host, pod) {
		return remove(e.host, host)
	}
	return nil
}

// peerOf gives the host's side of the pod's interface, or nil if it is not here.
func (e *edge) peerOf(pod netlink.Link) (netlink.Link, error) {
	if pod.Type() != "veth" || pod.Attrs().ParentIndex == 0 {
		return nil, nil
	}
	host, err := linkByIndex(e.host, pod.Attrs().ParentIndex)
	// The index may be one of a third namespace: the other side must point back.
	if err != nil || host == nil || host.Type() != "veth" || host.Attrs().ParentIndex != pod.Attrs().Index {
		return nil, err
	}
	return host, nil
}

// halfMade says whether a host's side has just been made and not been marked yet: its maker is at work or
// was killed. The maker leaves both sides down until the mark is there, but the agent sets up the host's
// if it knows the pod already; pod is the other side, or nil if it is not known.
func halfMade(host, pod netlink.Link) bool {
	a := host.Attrs()
	if host.Type() != "veth" || a.Alias != "" || a.HardwareAddr.String() != HostMAC {
		return false
	}
	return a.RawFlags&unix.IFF_UP == 0 || pod != nil && pod.Attrs().RawFlags&unix.IFF_UP == 0
}

// clear makes room for a pair whose names are taken: it reports found if the very pair is there, in
// order, removes what an earlier attachment of the pod left, and refuses to touch others'.
func (e *edge) clear(want Pair) (have Made, found bool, err error) {
	host, err := linkByName(e.host, want.Interface)
	if err != nil {
		return Made{}, false, err
	}
	pod, err := e.otherSide(host, want.IfName)
	switch {
	case err != nil:
		return Made{}, false, err
	case host == nil:
		return Made{}, false, e.clearPod(want)
	case !halfMade(host, pod) && !ofPod(host, want):
		return Made{}, false, fmt.Errorf("%w: %s (%s, alias %q): remove it: ip link delete %s",
			ErrTaken, want.Interface, host.Type(), host.Attrs().Alias, want.Interface)
	}
	if mac, ok := e.inOrder(want); ok {
		return Made{MAC: mac}, true, nil
	}
	if err := remove(e.host, host); err != nil {
		return Made{}, false, err
	}
	return Made{}, false, e.clearPod(want)
}

// otherSide gives the pod's interface if it is the other side of the host's, or nil.
func (e *edge) otherSide(host netlink.Link, ifName string) (netlink.Link, error) {
	if host == nil {
		return nil, nil
	}
	pod, err := linkByName(e.pod, ifName)
	if err != nil || pod == nil {
		return nil, err
	}
	peer, err := e.peerOf(pod)
	if err != nil || peer == nil || peer.Attrs().Index != host.Attrs().Index {
		return nil, err
	}
	return pod, nil
}

// ofPod says whether a host's side is marked as one of the pod's.
func ofPod(host netlink.Link, want Pair) bool {
	alias, err := endpoint.ParseAlias(host.Attrs().Alias)
	return err == nil && host.Type() == "veth" && alias.Of(want.Namespace, want.Pod)
}

// clearPod removes the attachment's pod side if its host side has another name than wanted.
func (e *edge) clearPod(want Pair) error {
	pod, err := linkByName(e.pod, want.IfName)
	if err != nil || pod == nil {
		return err
	}
	host, err := e.peerOf(pod)
	if err != nil {
		return err
	}
	if host != nil {
		if alias, err := endpoint.ParseAlias(host.Attrs().Alias); err == nil && alias.Is(want.ID) {
			return remove(e.host, host)
		}
	}
	return fmt.Errorf("%w: %s in %s (%s): another plugin made it: is korat the first plugin of the network's list?",
		ErrTaken, want.IfName, want.NetNS, pod.Type())
}

// inOrder says whether the very pair exists with nothing amiss, and gives the pod's MAC.
func (e *edge) inOrder(want Pair) (mac string, ok bool) {
	if e.check(want, Later{}) != nil {
		return "", false
	}
	pod, err := linkByName(e.pod, want.IfName)
	if err != nil || pod == nil {
		return "", false
	}
	return pod.Attrs().HardwareAddr.String(), true
}

// remove removes one side, and the other with it. It may be gone since it was read.
func remove(h *netlink.Handle, link netlink.Link) error {
	if err := h.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove interface %s: %w", link.Attrs().Name, err)
	}
	return nil
}
