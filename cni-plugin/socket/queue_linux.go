// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"korat/felix/endpoint"
)

// QueueDirectory is beside the socket. The agent makes it; the plugin leaves the DELs in it that no agent
// answered, one file each.
const QueueDirectory = "del"

// maxQueued bounds the directory, which is in memory. A runtime sends DEL for every ADD that failed as
// well, so that a node without an agent collects more than it has pods.
const maxQueued = 4096

const (
	entrySuffix = ".json"
	badSuffix   = ".bad"
	// maxEntry is the longest file that may be an entry.
	maxEntry = 4096
	// halfWritten is when a file that its writer has not renamed yet is taken for a dead one's.
	halfWritten = time.Minute
)

// queued is one entry. Its file's name comes from its ID, so that a DEL which is repeated stays one.
type queued struct {
	endpoint.ID
	// Queued is when, for people.
	Queued time.Time `json:"queued"`
}

// queue is the directory.
type queue struct{ path string }

func queueOf(socket string) queue {
	return queue{filepath.Join(filepath.Dir(socket), QueueDirectory)}
}

// Queue leaves a DEL for the next agent on the socket: when it returns without error, the DEL is on
// disk. An ADD of the same attachment is not answered before the DEL was carried out.
func Queue(socket string, id endpoint.ID) error {
	q := queueOf(socket)
	if err := q.put(queued{id, time.Now().UTC().Truncate(time.Second)}); err != nil {
		return fmt.Errorf("queue DEL of %s: %w", id, err)
	}
	return nil
}

func entryName(id endpoint.ID) string {
	sum := sha256.Sum256([]byte(id.String()))
	return hex.EncodeToString(sum[:]) + entrySuffix
}

func (q queue) file(name string) string { return filepath.Join(q.path, name) }

// make makes the directory, and refuses one that others may write to.
func (q queue) make() error {
	if err := os.Mkdir(q.path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	dir, err := q.open()
	if err != nil {
		return err
	}
	return dir.Close()
}

func (q queue) open() (*os.File, error) {
	dir, err := os.OpenFile(q.path, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: korat-node makes it when it starts", err)
	}
	if err != nil {
		return nil, err
	}
	if err := onlyRoots(dir); err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return dir, nil
}

// put writes the entry so that it is there whole or not at all, and on disk.
func (q queue) put(e queued) error {
	dir, err := q.open()
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(maxQueued)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("list %s: %w", q.path, err)
	}
	if len(names) >= maxQueued {
		return fmt.Errorf("%s is full: %d wait there already: start korat-node, which carries them out", q.path, len(names))
	}
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	name := entryName(e.ID)
	file, err := os.CreateTemp(q.path, "."+strings.TrimSuffix(name, entrySuffix)+".")
	if err != nil {
		return err
	}
	_, err = file.Write(append(text, '\n'))
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), q.file(name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return dir.Sync()
}

// has says whether a DEL of the attachment waits.
func (q queue) has(id endpoint.ID) bool {
	_, err := os.Lstat(q.file(entryName(id)))
	return err == nil
}

func (q queue) remove(id endpoint.ID) error {
	if err := os.Remove(q.file(entryName(id))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// all reads the entries. What is none is put aside for a person, with an error each; what a killed
// plugin left half-written is removed: that plugin has not said that it is done.
func (q queue) all(now time.Time) ([]endpoint.ID, error) {
	dir, err := q.open()
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	var ids []endpoint.ID
	errs := []error{err}
	for _, name := range names {
		switch {
		case strings.HasPrefix(name, "."):
			errs = append(errs, q.sweep(name, now))
		case strings.HasSuffix(name, badSuffix):
		default:
			id, err := q.read(name)
			if errors.Is(err, fs.ErrNotExist) {
				continue // an ADD has had it carried out
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("queued DEL %s is put aside as %s: %w", q.file(name), name+badSuffix, err), os.Rename(q.file(name), q.file(name+badSuffix)))
				continue
			}
			ids = append(ids, id)
		}
	}
	return ids, errors.Join(errs...)
}

func (q queue) sweep(name string, now time.Time) error {
	info, err := os.Lstat(q.file(name))
	if errors.Is(err, fs.ErrNotExist) || err == nil && now.Sub(info.ModTime()) < halfWritten {
		return nil
	}
	if err != nil {
		return err
	}
	return os.RemoveAll(q.file(name))
}

// read reads one entry.
func (q queue) read(name string) (endpoint.ID, error) {
	// O_NONBLOCK: a FIFO put in the place must not hold us.
	file, err := os.OpenFile(q.file(name), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return endpoint.ID{}, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return endpoint.ID{}, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxEntry {
		return endpoint.ID{}, fmt.Errorf("mode %s, %d bytes: want a regular file of at most %d", info.Mode(), info.Size(), maxEntry)
	}
	if err := onlyRoots(file); err != nil {
		return endpoint.ID{}, err
	}
	var e queued
	dec := json.NewDecoder(file)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		return endpoint.ID{}, err
	}
	if want := entryName(e.ID); want != name {
		return endpoint.ID{}, fmt.Errorf("it is about %s, whose file's name is %s", e.ID, want)
	}
	return e.ID, nil
}
