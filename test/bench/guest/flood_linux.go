// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// floodSize is what a packet carries.
	floodSize = 18
	// streamSize is what a write of a TCP stream carries.
	streamSize = 128 << 10
)

// PathTest is which chains to try in turns, how often, and with how many packets or bytes each time.
type PathTest struct {
	// Chains are texts of iptables-restore's; empty is no packet filter at all.
	Chains []string
	Rounds int
	Amount int
}

// Flood sends UDP packets from each pod to the next one, which nobody reads or answers: to the connection tracking
// they stay the first of their connection. It gives for each of the chains what one packet has cost in each round. All of
// the way is gone in the sender's system call.
func (p *Path) Flood(t PathTest, costs *[][]float64) error {
	sinks, senders, err := p.sockets()
	defer func() {
		for _, fd := range append(sinks, senders...) {
			_ = unix.Close(fd)
		}
	}()
	if err != nil {
		return err
	}
	*costs = make([][]float64, len(t.Chains))
	for range t.Rounds {
		for i, text := range t.Chains {
			if err := p.install(text); err != nil {
				return err
			}
			took, err := flood(senders, t.Amount)
			if err != nil {
				return err
			}
			(*costs)[i] = append((*costs)[i], float64(took)/float64(t.Amount*len(senders)))
		}
	}
	return p.install("")
}

// sockets opens one that packets come to, and one that sends them to the next pod, in each pod. The caller closes them.
func (p *Path) sockets() (sinks, senders []int, err error) {
	for i, e := range p.ends {
		next := p.ends[(i+1)%len(p.ends)]
		err := inSpace(e.space, func() error {
			sink, err := udp(netip.AddrPortFrom(e.address, pathPort), netip.AddrPort{})
			sinks = append(sinks, sink)
			if err != nil {
				return err
			}
			sender, err := udp(netip.AddrPortFrom(e.address, 0), netip.AddrPortFrom(next.address, pathPort))
			senders = append(senders, sender)
			return err
		})
		if err != nil {
			return sinks, senders, err
		}
	}
	return sinks, senders, nil
}

// udp gives a socket that is bound, and connected if to is valid.
func udp(at, to netip.AddrPort) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())})
	}
	if err == nil && to.IsValid() {
		err = unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
	}
	if err != nil {
		return fd, fmt.Errorf("open UDP socket: %w", err)
	}
	return fd, nil
}

// flood sends so many packets from each socket, and gives the CPU time of the thread.
func flood(senders []int, count int) (time.Duration, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var packet [floodSize]byte
	// The first ones are new to the connection tracking and to caches.
	const warm = 100
	var before time.Duration
	for phase, count := range []int{warm, count} {
		if phase == 1 {
			var err error
			if before, err = threadCPU(); err != nil {
				return 0, err
			}
		}
		for _, fd := range senders {
			for range count {
				// Without the scheduler's part of a system call, which would be most of what is counted beside the kernel's.
				_, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&packet[0])), floodSize)
				if errno != 0 {
					return 0, fmt.Errorf("send packet: %w", errno)
				}
			}
		}
	}
	after, err := threadCPU()
	return after - before, err
}

func threadCPU() (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0, fmt.Errorf("read CPU clock: %w", err)
	}
	return time.Duration(t.Nano()), nil
}

// Stream sends bytes by TCP from one pod to another, and gives for each of the chains how many seconds that took.
func (p *Path) Stream(t PathTest, times *[][]float64) error {
	*times = make([][]float64, len(t.Chains))
	for range t.Rounds {
		for i, text := range t.Chains {
			if err := p.install(text); err != nil {
				return err
			}
			took, err := p.stream(int64(t.Amount))
			if err != nil {
				return err
			}
			(*times)[i] = append((*times)[i], took.Seconds())
		}
	}
	return p.install("")
}

// stay keeps the goroutine on a CPU of its own, by its number among those that there are, until it ends: with both ends of a stream on
// one CPU, now and then, times are of the scheduler's making.
func stay(at int) error {
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return fmt.Errorf("list CPUs: %w", err)
	}
	for cpu, n := 0, all.Count(); n > 0; cpu++ {
		if !all.IsSet(cpu) {
			continue
		}
		if n--; n == 0 || at == 0 {
			one.Set(cpu)
			break
		}
		at--
	}
	runtime.LockOSThread() // and never unlocks it: the thread ends with the goroutine
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return fmt.Errorf("stay on a CPU: %w", err)
	}
	return nil
}

func (p *Path) stream(size int64) (took time.Duration, err error) {
	from, to := p.ends[0], p.ends[1]
	target := netip.AddrPortFrom(to.address, pathPort)
	var listener net.Listener
	var config net.ListenConfig
	err = inSpace(to.space, func() (err error) {
		listener, err = config.Listen(p.ctx, "tcp", target.String())
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("stream: %w", err)
	}
	read := make(chan error, 1)
	go func() { read <- errors.Join(receive(listener, size), listener.Close()) }()
	began := time.Now()
	var dialer net.Dialer
	err = inSpace(from.space, func() error {
		if err := stay(0); err != nil {
			return err
		}
		conn, err := dialer.DialContext(p.ctx, "tcp", target.String())
		if err != nil {
			return err
		}
		block := make([]byte, streamSize)
		for left := size; left > 0 && err == nil; left -= streamSize {
			_, err = conn.Write(block[:min(left, streamSize)])
		}
		return errors.Join(err, conn.Close())
	})
	if err != nil {
		_ = listener.Close() // nobody may have come
	}
	if err = errors.Join(err, <-read); err != nil {
		return 0, fmt.Errorf("stream: %w", err)
	}
	return time.Since(began), nil
}

// receive reads a connection to its end, which must come after so many bytes.
func receive(listener net.Listener, size int64) error {
	if err := stay(1); err != nil {
		return err
	}
	conn, err := listener.Accept()
	if err != nil {
		return err
	}
	n, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{conn}, make([]byte, streamSize))
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes arrived of %d", n, size)
	}
	return errors.Join(err, conn.Close())
}
