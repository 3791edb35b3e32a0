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
	// usualGC is Go's own percentage of garbage (GOGC), and startGC the one until the start is over.
	usualGC, startGC = 100, 50
	// large is how many bytes live in an agent that has much to give back.
	large = 64 << 20
)

// thrift keeps the process small that has to read a large cluster. The first lists leave more garbage than objects, and so does
// what is made of them for the first time: policies, the first block. It is collected the sooner, lest what lives on is scattered
// among it, and what was free is given back to the kernel twice: when everything has been listed, and when the start is over.
type thrift struct {
	// until is when the start is over, at the latest; zero before everything has been listed, and afterwards.
	until time.Time
	// spared says that the percentage of garbage is the start's. One that somebody has set (GOGC) is left alone.
	spared bool
}

// start is for when nothing has been read yet.
func (t *thrift) start() {
	if t.spared = gauge("/gc/gogc:percent") == usualGC; t.spared {
		debug.SetGCPercent(startGC)
	}
}

// gauge gives one of the Go runtime's figures, zero if it has none of that name.
func gauge(name string) uint64 {
	one := []gometrics.Sample{{Name: name}}
	gometrics.Read(one)
	if one[0].Value.Kind() != gometrics.KindUint64 {
		return 0
	}
	return one[0].Value.Uint64()
}

// listed is for when everything has been. In a small cluster the start is over then.
func (t *thrift) listed() {
	if gauge("/gc/heap/live:bytes") < large {
		t.end()
		return
	}
	t.until = time.Now().Add(longestStart)
	go debug.FreeOSMemory()
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
	if t.spared {
		debug.SetGCPercent(usualGC)
	}
	go debug.FreeOSMemory()
}
