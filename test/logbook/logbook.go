// SPDX-License-Identifier: Apache-2.0

// Package logbook gives a test a log to read while others write it.
package logbook

import (
	"bytes"
	"sync"
)

// Book is an io.Writer for a log's handler. The zero Book is empty and may be used.
type Book struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (b *Book) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String gives what has been written so far.
func (b *Book) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
