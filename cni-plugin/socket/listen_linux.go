// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// Listen makes the socket, with mode 0600, and its directory, with mode 0700 if it does not exist yet.
// A directory that others may write to is refused, as is a socket that a live agent answers on; the
// left-over of a dead one is replaced.
func Listen(path string) (*Server, error) {
	if err := CheckPath(path); err != nil {
		return nil, fmt.Errorf("listen on %w", err)
	}
	dir, err := openDirectory(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	defer dir.Close()
	// The lock makes looking for a live agent and taking its place one step. It goes with the file.
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, fmt.Errorf("listen on %s: lock its directory: another agent is starting there: %w", path, err)
	}
	if err := removeStale(path); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	q := queueOf(path)
	if err := q.make(); err != nil {
		return nil, fmt.Errorf("listen on %s: directory for queued DELs: %w", path, err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", path, err), listener.Close())
	}
	return newServer(listener, q), nil
}

// CheckDirectory makes a directory for sockets and what else only root may read or change, and refuses one
// that others have a hand in, as Listen does.
func CheckDirectory(path string) error {
	dir, err := openDirectory(path)
	if err != nil {
		return err
	}
	return dir.Close()
}

// openDirectory makes and opens the socket's directory. An existing one keeps its mode, because it may
// be /run itself, but only root may be able to put things there, and to say where it is.
func openDirectory(path string) (*os.File, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make its directory: %w", err)
	}
	if err := onlyRootsLink(path); err != nil {
		return nil, err
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open its directory: %w", err)
	}
	if err := onlyRoots(dir); err != nil {
		return nil, errors.Join(fmt.Errorf("its directory %w, or choose another", err), dir.Close())
	}
	return dir, nil
}

// onlyRootsLink refuses a symbolic link that another than root has made: it may lead to any of root's directories.
func onlyRootsLink(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if info.Mode().Type() == fs.ModeSymlink && (!ok || stat.Uid != uint32(os.Geteuid())) {
		return fmt.Errorf("its directory %s is a symbolic link that another user has made: remove it, or choose another", path)
	}
	return nil
}

// onlyRoots refuses what others than root may write to.
func onlyRoots(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Uid != uint32(os.Geteuid()) || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s (mode %04o) may be written by others than root: chown root and chmod 0700 it", file.Name(), info.Mode().Perm())
	}
	return nil
}

// removeStale removes the socket that a dead agent left.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return errors.New("it exists and is no socket: remove it, or choose another path")
	}
	conn, err := connect(path)
	switch {
	case err == nil:
		_ = conn.Close()
		return errors.New("a live agent answers there: stop it, or choose another path")
	case errors.Is(err, syscall.EAGAIN):
		return errors.New("a live agent with a full backlog holds it: stop it, or choose another path")
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("see whether another agent answers there: %w", err)
	}
	return os.Remove(path)
}

// peerUID gives the user that connected, as the kernel noted it then. (unix(7), SO_PEERCRED)
func peerUID(conn *net.UnixConn) (uint32, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *syscall.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err := errors.Join(err, credErr); err != nil {
		return 0, fmt.Errorf("peer's credentials: %w", err)
	}
	return cred.Uid, nil
}
