// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// receiver reads what the kernel tells on a netlink socket, datagram by datagram.
type receiver struct {
	raw syscall.RawConn
	buf []byte
	// overflowed says that the socket's buffer was full, and has not been read empty since.
	overflowed bool
}

// receive waits for a datagram, which is valid until the next call. It is os.ErrClosed once the file is closed, and
// unix.ENOBUFS after something was lost.
//
// From the moment that the buffer is full the kernel drops everything until it has been read empty, and says so only once,
// at the beginning (netlink_overrun). So the loss is told at its end: whoever reads the whole state then misses nothing.
func (r *receiver) receive() (b []byte, err error) {
	closed := r.raw.Read(func(fd uintptr) bool {
		var from unix.Sockaddr
		var size int
		for {
			size, from, err = unix.Recvfrom(int(fd), r.buf, 0)
			switch {
			case errors.Is(err, unix.EINTR):
			case errors.Is(err, unix.ENOBUFS) && !r.overflowed:
				r.overflowed = true
			case errors.Is(err, unix.ENOBUFS): // full anew, so that it was empty in between
				return true
			case errors.Is(err, unix.EAGAIN) && r.overflowed:
				r.overflowed, err = false, unix.ENOBUFS
				return true
			case errors.Is(err, unix.EAGAIN):
				return false
			default:
				if err == nil && fromKernel(from) {
					b = r.buf[:size]
				}
				return true
			}
		}
	})
	if closed != nil {
		return nil, os.ErrClosed
	}
	return b, err
}
