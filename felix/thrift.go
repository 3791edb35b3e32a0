// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"runtime/debug"
	gometrics "runtime/metrics"
	"time"
)

const (
	// rest is how long the loop has nothing to do once the start is over, and longestStart how long that is waited for.
	rest         = time.Second
	longestStart = 30 * time.Second
	// large is how many bytes live in an agent that has much to give back.
	large = 64 << 20
)

// thrift keeps the process small that has to read a large cluster. The first lists leave as much garbage as objects, and so does
// what is made of them for the first time: policies, the first block. What was free is given back to the kernel twice: when
// everything has been listed, and when the start is over.
type thrift struct {
	// until is when the start is over, at the latest; zero before everything has been listed, and afterwards.
	until time.Time
}

// listed is for when everything has been. In a small cluster the start is over then.
func (t *thrift) listed() {
	if live() >= large {
		t.until = time.Now().Add(longestStart)
	}
	go debug.FreeOSMemory()
}

// live gives how many bytes lived at the last collection, zero if the Go runtime does not tell.
func live() uint64 {
	one := []gometrics.Sample{{Name: "/gc/heap/live:bytes"}}
	gometrics.Read(one)
	if one[0].Value.Kind() != gometrics.KindUint64 {
		return 0
	}
	return one[0].Value.Uint64()
}

// over tells when the start is, if nothing happens before; nil if it need not be told.
func (t *thrift) over() <-chan time.Time {
	if t.until.IsZero() {
		return nil
	}
	return time.After(min(rest, time.Until(t.until)))
}

func (t *thrift) end() {
	t.until = time.Time{}
	go debug.FreeOSMemory()
}
