// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// below is where a covered directory can be seen, inside what covers it.
const below = ".below"

// prepareMounts gives the sandbox its own /proc, an empty /run, and every directory of Private.
func prepareMounts() error {
	// Systemd shares the root mount; without this, our mounts would appear outside.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := mountTmpfs("/run"); err != nil {
		return err
	}
	if err := os.Mkdir("/run/lock", 0o1777); err != nil {
		return err
	}
	covered := covers{}
	for _, dir := range Private() {
		if err := covered.provide(dir); err != nil {
			return fmt.Errorf("provide %s: %w", dir, err)
		}
	}
	return nil
}

// Private lists the directories that exist in every sandbox, so that a lab can mount something on
// them for each of its hosts: where korat and the runtimes that call it keep files by default.
func Private() []string {
	return []string{
		"/run", "/etc/korat", "/etc/cni/net.d", "/opt/cni/bin",
		"/var/lib/korat", "/var/lib/cni", "/var/log/korat",
	}
}

func mountTmpfs(dir string) error {
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("mount tmpfs on %s: %w", dir, err)
	}
	return nil
}

// covers are the directories that were covered with a copy made of links.
type covers map[string]bool

// provide makes a directory exist without creating it in the machine's own file system: its closest
// existing ancestor is covered with a tmpfs in which everything that was there is a symbolic link to
// what it was. (An overlay would do the same, but not every kernel or container has it.)
func (c covers) provide(dir string) error {
	ancestor := dir
	for {
		_, err := os.Stat(ancestor)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		ancestor = filepath.Dir(ancestor)
	}
	if ancestor == dir {
		return nil
	}
	ancestor, err := filepath.EvalSymlinks(ancestor)
	if err != nil {
		return err
	}
	if ancestor == "/" {
		return errors.New("no parent directory other than / exists")
	}
	if !c.ours(ancestor) {
		if err := cover(ancestor); err != nil {
			return fmt.Errorf("cover %s: %w", ancestor, err)
		}
		c[ancestor] = true
	}
	return os.MkdirAll(dir, 0o755)
}

// ours reports whether a directory lies in /run or in a covering tmpfs.
func (c covers) ours(dir string) bool {
	if strings.HasPrefix(dir+"/", "/run/") {
		return true
	}
	for d := dir; d != "/"; d = filepath.Dir(d) {
		if filepath.Base(d) == below {
			return false
		}
		if c[d] {
			return true
		}
	}
	return false
}

// cover mounts a tmpfs over a directory and links its entries into it.
func cover(dir string) error {
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return fmt.Errorf("copy mount: %w", err)
	}
	defer unix.Close(fd)
	if err := mountTmpfs(dir); err != nil {
		return err
	}
	hidden := filepath.Join(dir, below)
	if err := os.Mkdir(hidden, 0o755); err != nil {
		return err
	}
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, hidden, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("move mount to %s: %w", hidden, err)
	}
	entries, err := os.ReadDir(hidden)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if err := link(dir, hidden, entry); err != nil {
			return err
		}
	}
	return nil
}

// link makes an entry visible again. A symbolic link is copied, because a relative one means
// something else from where the directory is now.
func link(dir, hidden string, entry fs.DirEntry) error {
	target := filepath.Join(hidden, entry.Name())
	if entry.Type()&fs.ModeSymlink != 0 {
		copied, err := os.Readlink(target)
		if err != nil {
			return err
		}
		target = copied
	}
	return os.Symlink(target, filepath.Join(dir, entry.Name()))
}
