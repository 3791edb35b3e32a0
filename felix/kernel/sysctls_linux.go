// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"korat/felix/dataplane"
	"korat/felix/reconcile"
)

// sysctlRoot holds the files; those below net are of the reading thread's network namespace.
const sysctlRoot = "/proc/sys/"

// Sysctls are files below /proc/sys. There are thousands, so ours are those that were ever set
// through this value: it starts knowing none, and Write leaves alone a file that holds what is wanted.
// Deleting an entry forgets it; what the value was before it was ours is not known.
// A Sysctls belongs to one goroutine.
type Sysctls struct {
	h     *Handle
	known map[string]bool
}

// Sysctls gives a table that knows no entries yet.
func (h *Handle) Sysctls() *Sysctls { return &Sysctls{h: h, known: map[string]bool{}} }

// Read implements reconcile.Table.
func (t *Sysctls) Read(ctx context.Context) (map[string]dataplane.SysctlValue, error) {
	return t.ReadEntries(ctx, slices.Collect(maps.Keys(t.known)))
}

// ReadEntries implements reconcile.EntryReader.
func (t *Sysctls) ReadEntries(ctx context.Context, keys []string) (map[string]dataplane.SysctlValue, error) {
	have := make(map[string]dataplane.SysctlValue, len(keys))
	err := t.h.inside(func() error {
		for _, k := range keys {
			if err := ctx.Err(); err != nil {
				return err
			}
			v, err := readSysctl(k)
			if err == nil {
				have[k] = v
			} else if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil
	})
	return have, err
}

// Write implements reconcile.Table; sysctlRank has the order.
func (t *Sysctls) Write(ctx context.Context, d reconcile.Diff[string, dataplane.SysctlValue]) error {
	var failed reconcile.WriteError[string]
	err := t.h.inside(func() error {
		for _, k := range inOrder(d.Set) {
			if err := ctx.Err(); err != nil {
				return err
			}
			t.known[k] = true
			if err := t.set(k, d.Set[k]); err != nil {
				failed.Fail(k, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for k := range d.Delete {
		delete(t.known, k)
	}
	return failed.Err()
}

// inOrder lists sysctls as they are to be written.
func inOrder(set map[string]dataplane.SysctlValue) []string {
	return slices.SortedFunc(maps.Keys(set), func(a, b string) int {
		return cmp.Or(cmp.Compare(sysctlRank(a), sysctlRank(b)), strings.Compare(a, b))
	})
}

// sysctlRank orders sysctls: what has the lower one is written first. Entries of interfaces come after those of the
// whole host, as writing ip_forward or IPv6's all/forwarding writes every interface's forwarding. Before them comes
// accept_ra: when forwarding is switched on, the kernel takes away what router advertisements gave to links
// whose accept_ra is not 2 (net/ipv6/addrconf.c, rt6_purge_dflt_routers). Of an interface, rp_filter comes before
// proxy_arp: until the pod's route is there, it alone keeps the host from claiming the pod's address as its own.
// (docs/decisions/0016)
func sysctlRank(key string) int {
	switch name := sysctlInterface(key); {
	case strings.HasSuffix(key, "/accept_ra"):
		return 0
	case name == "" || name == "all" || name == "default":
		return 1
	case strings.HasSuffix(key, "/rp_filter"):
		return 2
	}
	return 3
}

func (t *Sysctls) set(key string, want dataplane.SysctlValue) error {
	have, err := readSysctl(key)
	if err == nil && have != want {
		t.h.writes.sysctls.Add(1)
		err = writeSysctl(key, want)
	}
	if errors.Is(err, fs.ErrNotExist) && t.interfaceGone(key) {
		return nil // a link that doesn't exist is left alone; its notice brings us back
	}
	return err
}

// interfaceGone says whether a sysctl is missing because its interface is.
func (t *Sysctls) interfaceGone(key string) bool {
	name := sysctlInterface(key)
	if name == "" || name == "all" || name == "default" {
		return false
	}
	_, err := t.h.conn.devices().index(name)
	return errors.Is(err, unix.ENODEV)
}

func readSysctl(key string) (dataplane.SysctlValue, error) {
	if !filepath.IsLocal(key) || filepath.Clean(key) != key {
		return "", fmt.Errorf("sysctl %q: not a path below %s", key, sysctlRoot)
	}
	b, err := readWhole(sysctlRoot + key)
	if err != nil {
		return "", fmt.Errorf("read sysctl %s: %w", key, err)
	}
	// Lists of numbers come back with tabs between them.
	return dataplane.SysctlValue(strings.Join(strings.Fields(string(b)), " ")), nil
}

// readWhole is os.ReadFile with half its system calls: a new interface is twenty files to read or write.
func readWhole(path string) ([]byte, error) {
	fd, err := uninterrupted(func() (int, error) { return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, err
	}
	all := make([]byte, 0, 256)
	for n := 1; n > 0; {
		all = slices.Grow(all, cap(all)/2)
		if n, err = uninterrupted(func() (int, error) { return unix.Read(fd, all[len(all):cap(all)]) }); n > 0 {
			all = all[:len(all)+n]
		}
	}
	return all, errors.Join(err, unix.Close(fd))
}

func writeSysctl(key string, want dataplane.SysctlValue) error {
	fd, err := uninterrupted(func() (int, error) { return unix.Open(sysctlRoot+key, unix.O_WRONLY|unix.O_CLOEXEC, 0) })
	if err == nil {
		_, err = uninterrupted(func() (int, error) { return unix.Write(fd, []byte(want)) })
		err = errors.Join(err, unix.Close(fd))
	}
	if err != nil {
		return fmt.Errorf("set sysctl %s to %q: %w", key, want, err)
	}
	return nil
}

// uninterrupted makes a system call again that a signal has interrupted.
func uninterrupted(call func() (int, error)) (n int, err error) {
	for n, err = call(); errors.Is(err, unix.EINTR); n, err = call() {
	}
	return n, err
}

// sysctlInterface gives the interface that a sysctl belongs to: X of net/ipv4/conf/X/… and
// net/ipv6/neigh/X/…, or "". It may be "all" or "default".
func sysctlInterface(key string) string {
	rest, net := strings.CutPrefix(key, "net/")
	_, rest, _ = strings.Cut(rest, "/")
	kind, rest, _ := strings.Cut(rest, "/")
	name, sysctl, whole := strings.Cut(rest, "/")
	if !net || !whole || kind != "conf" && kind != "neigh" || strings.Contains(sysctl, "/") {
		return ""
	}
	return name
}
