// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
)

// Ledger knows at any moment which pods have which addresses, by the results of their ADDs. The zero Ledger is
// empty and may be used, by many goroutines at once.
type Ledger struct {
	mu      sync.Mutex
	holders map[netip.Addr]string
	given   int
	doubles []string
}

// Take notes that an ADD has given the addresses to a pod. One that another pod has is a double.
func (l *Ledger) Take(pod string, addrs ...netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.holders == nil {
		l.holders = map[netip.Addr]string{}
	}
	for _, addr := range addrs {
		if holder, taken := l.holders[addr]; taken {
			l.doubles = append(l.doubles, fmt.Sprintf("%s was given to %s while %s had it", addr, pod, holder))
		}
		l.holders[addr] = pod
		l.given++
	}
}

// Return notes that a pod's DEL begins: from then on its addresses may be given again.
func (l *Ledger) Return(pod string, addrs ...netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, addr := range addrs {
		if l.holders[addr] == pod {
			delete(l.holders, addr)
		}
	}
}

// Given counts the addresses that were given, and Doubles names those that somebody else had at the time.
func (l *Ledger) Given() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.given
}

// Doubles names the addresses that were given although somebody had them.
func (l *Ledger) Doubles() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.doubles)
}
