// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"fmt"
	"os"
	"syscall"
)

// arrivals tells of files that come into a directory, by inotify.
type arrivals struct {
	fd   int
	file *os.File
	// wake is written to, at most once ahead, when something has come or the directory has gone.
	wake chan struct{}
}

// arrivalEvents: an entry is renamed into its place.
const arrivalEvents = syscall.IN_MOVED_TO | syscall.IN_DELETE_SELF | syscall.IN_MOVE_SELF | syscall.IN_ONLYDIR

func newArrivals() (*arrivals, error) {
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	return &arrivals{fd: fd, file: os.NewFile(uintptr(fd), "inotify"), wake: make(chan struct{}, 1)}, nil
}

// of makes the directory that is at path now the one that is watched. What came before is not told of.
func (a *arrivals) of(path string) error {
	if _, err := syscall.InotifyAddWatch(a.fd, path, arrivalEvents); err != nil {
		return fmt.Errorf("inotify of %s: %w", path, err)
	}
	return nil
}

// listen wakes until close. What the events say does not matter: there is one directory.
func (a *arrivals) listen() {
	events := make([]byte, 4096)
	for {
		if _, err := a.file.Read(events); err != nil {
			return
		}
		select {
		case a.wake <- struct{}{}:
		default:
		}
	}
}

func (a *arrivals) close() { _ = a.file.Close() }
