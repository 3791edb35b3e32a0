// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"hash/maphash"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Protocol is the number that marks routes and neighbour entries as ours. It is unassigned in the
// kernel's rtnetlink.h and in iproute2's list, and clear of Calico's (80). A file
// /etc/iproute2/rt_protos.d/korat.conf with the line "75 korat" makes ip show the name.
const Protocol = 75

// InterfacePrefix begins the names of the host's sides of pods' interfaces.
const InterfacePrefix = "cali"

// currentNamespace is the calling thread's network namespace.
const currentNamespace = "/proc/thread-self/ns/net"

// Handle is the way to the kernel's tables of one network namespace. It is safe for concurrent use.
type Handle struct {
	conn *conn
	// netfilter is for IP sets, and what is deleted of the connection tracking.
	netfilter *conn
	notices   *notices
	ns        *os.File
	// id tells the namespace from others.
	id     namespaceID
	writes writeCounters
	// stuck counts the single commands of iptables that are under way.
	stuck atomic.Int32
	// locked is who holds the xtables lock while a program waits for it.
	locked atomic.Pointer[string]
	// routesMu guards routeTable.
	routesMu   sync.Mutex
	routeTable routeTable
}

type namespaceID struct{ dev, ino uint64 }

type writeCounters struct{ links, sysctls, neighbours, routes, sets, chains, flows atomic.Uint64 }

// Writes counts what was written to each table since Open: netlink requests that ask for a change, writes to sysctl
// files, and commands to iptables-restore.
type Writes struct{ Links, Sysctls, Neighbours, Routes, Sets, Chains, Flows uint64 }

// Open gives a Handle for the network namespace of the calling thread, which is the process' own
// unless the caller locked the thread and changed it. From then on changes are noticed.
func Open() (*Handle, error) { return OpenAt(currentNamespace) }

// OpenAt gives a Handle for the network namespace at a path such as "/run/netns/red". Unless it is the
// caller's own, this needs CAP_SYS_ADMIN.
func OpenAt(path string) (*Handle, error) {
	ns, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	h := &Handle{ns: ns, routeTable: routeTable{seed: maphash.MakeSeed()}}
	h.id, err = identify(int(ns.Fd()))
	if err == nil {
		err = h.inside(func() (err error) {
			if h.conn, err = dial(unix.NETLINK_ROUTE); err != nil {
				return err
			}
			if h.netfilter, err = dial(unix.NETLINK_NETFILTER); err != nil {
				return err
			}
			h.notices, err = listen(h.conn)
			return err
		})
	}
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	go h.notices.run()
	return h, nil
}

// Close ends the notices and closes the sockets. Nothing in the kernel changes.
func (h *Handle) Close() error {
	var errs []error
	if h.notices != nil {
		errs = append(errs, h.notices.close())
	}
	for _, c := range []*conn{h.conn, h.netfilter} {
		if c != nil {
			errs = append(errs, unix.Close(c.fd))
		}
	}
	return errors.Join(append(errs, h.ns.Close())...)
}

// Writes gives the counters.
func (h *Handle) Writes() Writes {
	w := &h.writes
	return Writes{w.links.Load(), w.sysctls.Load(), w.neighbours.Load(), w.routes.Load(), w.sets.Load(), w.chains.Load(), w.flows.Load()}
}

// inside calls f on a thread that is in the Handle's namespace: the caller's own if it is there
// already, else one that ends with the call.
func (h *Handle) inside(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	here, err := identifyPath(currentNamespace)
	if err != nil {
		return err
	}
	if here == h.id {
		return f()
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the runtime ends the thread with the goroutine
		if err := unix.Setns(int(h.ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// dialInside opens a socket for a netlink protocol in the Handle's namespace.
func (h *Handle) dialInside(protocol int) (c *conn, err error) {
	err = h.inside(func() (err error) {
		c, err = dial(protocol)
		return err
	})
	return c, err
}

func identify(fd int) (namespaceID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return namespaceID{}, fmt.Errorf("identify network namespace: %w", err)
	}
	return namespaceID{st.Dev, st.Ino}, nil
}

func identifyPath(path string) (namespaceID, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return namespaceID{}, fmt.Errorf("identify network namespace: %w", err)
	}
	return namespaceID{st.Dev, st.Ino}, nil
}

// devices resolves interface names and indexes, each once. It lives for one Read or Write: a name
// may mean another interface later.
type devices struct {
	fd      int
	indexes map[string]uint32
	names   map[uint32]string
}

func (c *conn) devices() *devices {
	return &devices{fd: c.fd, indexes: map[string]uint32{}, names: map[uint32]string{}}
}

// index gives an interface's index by its name.
func (d *devices) index(name string) (uint32, error) {
	if i, ok := d.indexes[name]; ok {
		return i, nil
	}
	req, err := unix.NewIfreq(name)
	if err != nil {
		return 0, fmt.Errorf("interface %q: the name is not a valid one: %w", name, err)
	}
	if err := unix.IoctlIfreq(d.fd, unix.SIOCGIFINDEX, req); err != nil {
		return 0, err
	}
	d.indexes[name] = req.Uint32()
	return req.Uint32(), nil
}

// name gives an interface's name by its index, or "" if it is gone.
func (d *devices) name(index uint32) string {
	if n, ok := d.names[index]; ok {
		return n
	}
	name := interfaceName(d.fd, index)
	d.names[index] = name
	return name
}

// interfaceName asks the kernel for an interface's name, "" if there is none with the index.
func interfaceName(fd int, index uint32) string {
	var req unix.Ifreq
	req.SetUint32(index)
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFNAME, &req); err != nil {
		return ""
	}
	return req.Name()
}
