// SPDX-License-Identifier: Apache-2.0

package podnet

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// edge holds the two namespaces of a pair: netlink sockets stay in the namespace that they were opened
// in, so nothing below changes a goroutine's own.
type edge struct {
	ns   netns.NsHandle
	host *netlink.Handle
	pod  *netlink.Handle
}

func openEdge(path string) (*edge, error) {
	ns, err := openNetNS(path)
	if err != nil {
		return nil, err
	}
	e := &edge{ns: ns}
	if e.host, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		e.close()
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	if e.pod, err = netlink.NewHandleAt(ns, unix.NETLINK_ROUTE); err != nil {
		e.close()
		return nil, fmt.Errorf("open netlink in %s: %w", path, err)
	}
	return e, nil
}

func (e *edge) close() {
	if e.pod != nil {
		e.pod.Close()
	}
	if e.host != nil {
		e.host.Close()
	}
	_ = e.ns.Close()
}

// CheckNetNS tells what is wrong with the network namespace at path, as one of this package's errors.
func CheckNetNS(path string) error {
	ns, err := openNetNS(path)
	if err != nil {
		return err
	}
	return ns.Close()
}

// openNetNS opens the namespace, after making sure that it is one and not our own.
func openNetNS(path string) (netns.NsHandle, error) {
	// O_NONBLOCK: a FIFO put in the place must not hold us.
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ENAMETOOLONG), errors.Is(err, unix.ELOOP):
		return netns.None(), fmt.Errorf("%s: %w", path, ErrNoNetNS)
	case err != nil:
		return netns.None(), fmt.Errorf("open %s: %w", path, err)
	}
	if err := checkNetNS(fd); err != nil {
		_ = unix.Close(fd)
		return netns.None(), fmt.Errorf("%s: %w", path, err)
	}
	return netns.NsHandle(fd), nil
}

func checkNetNS(fd int) error {
	var fsStat unix.Statfs_t
	if err := unix.Fstatfs(fd, &fsStat); err != nil {
		return fmt.Errorf("statfs: %w", err)
	}
	if fsStat.Type != unix.NSFS_MAGIC {
		return ErrNotNetNS
	}
	kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE)
	if err != nil {
		return fmt.Errorf("ask for the namespace's type: %w", err)
	}
	if kind != unix.CLONE_NEWNET {
		return ErrNotNetNS
	}
	var own, it unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &own); err != nil {
		return fmt.Errorf("stat own network namespace: %w", err)
	}
	if err := unix.Fstat(fd, &it); err != nil {
		return fmt.Errorf("stat: %w", err)
	}
	if own.Dev == it.Dev && own.Ino == it.Ino {
		return ErrOwnNetNS
	}
	return nil
}

// dumpTries bounds the repeating of a dump that the kernel calls inconsistent because the table changed
// under it. (NLM_F_DUMP_INTR)
const dumpTries = 20

func dump[T any](read func() ([]T, error)) ([]T, error) {
	for range dumpTries {
		list, err := read()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return list, err
		}
	}
	return nil, fmt.Errorf("changed during each of %d readings: %w", dumpTries, netlink.ErrDumpInterrupted)
}

// linkByName gives the link, or nil if there is none.
func linkByName(h *netlink.Handle, name string) (netlink.Link, error) {
	link, err := h.LinkByName(name)
	var absent netlink.LinkNotFoundError
	if errors.As(err, &absent) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read interface %s: %w", name, err)
	}
	// An alternative name may have led here.
	if link.Attrs().Name != name {
		return nil, fmt.Errorf("read interface %s: it is an alternative name of %s", name, link.Attrs().Name)
	}
	return link, nil
}

func linkByIndex(h *netlink.Handle, index int) (netlink.Link, error) {
	link, err := h.LinkByIndex(index)
	var absent netlink.LinkNotFoundError
	if errors.As(err, &absent) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read interface %d: %w", index, err)
	}
	return link, nil
}
