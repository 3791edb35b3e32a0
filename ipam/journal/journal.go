// SPDX-License-Identifier: Apache-2.0

// Package journal keeps a small map on disk as an append-only file of JSON lines, so that it
// survives the process. It is made for tmpfs: it never syncs, and what it keeps need not survive a
// reboot. One process at a time may have a journal open.
//
// Each line carries a sequence number and a checksum. Opening replays the file: a line that was
// cut off at the end is dropped, and damage elsewhere costs the damaged lines alone; both are
// reported by Status. A lost line can mean a lost entry, or one that had been deleted: with damage
// that is not Torn, check the entries against the world. Err tells of it, and the file is written anew.
//
// Nobody else has any business in the file. Where somebody cuts it, writes to it or removes it while it is
// open, the next change writes it anew from memory, and Err tells of that too.
package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"syscall"
	"unicode/utf8"
)

// minCompaction is the size below which a file is never rewritten.
const minCompaction = 64 << 10

// ErrLocked says that another process has the journal open.
var ErrLocked = errors.New("another agent holds it: stop that one first")

// Journal is a map that every change of which is in the file before it is visible. It is not safe
// for concurrent use.
type Journal[V any] struct {
	path string
	file file
	live map[string]entry[V]
	// size is the length of the file's good part; dirty says that there may be more, half written.
	size  int64
	dirty bool
	// liveSize is what the file would have if it were rewritten now.
	liveSize int64
	// compactAt is the least size at which the next rewriting may be tried.
	compactAt int64
	sequence  uint64
	damage    []Damage
	// unwritten is why the last change was not recorded, compaction why the last rewriting did not succeed.
	unwritten, compaction error
	// spoilt is what others have done to the file.
	spoilt error
}

// entry is one live record.
type entry[V any] struct {
	value V
	raw   json.RawMessage
	size  int64
}

// file is what a Journal needs of an *os.File.
type file interface {
	WriteAt(b []byte, off int64) (int, error)
	Truncate(size int64) error
	Stat() (os.FileInfo, error)
	Close() error
}

// Damage is a part of the file that could not be used.
type Damage struct {
	// Offset and Bytes say where it was in the file when it was opened.
	Offset, Bytes int64
	// Torn: the last line ended early, as after a crash during a write that was never acknowledged.
	Torn   bool
	Reason string
}

// String is for logs: "17 bytes at offset 120: checksum mismatch".
func (d Damage) String() string {
	return fmt.Sprintf("%d bytes at offset %d: %s", d.Bytes, d.Offset, d.Reason)
}

// Status describes the file.
type Status struct {
	Path    string
	Records int
	// Bytes is the file's size; Live is how much of it still counts.
	Bytes, Live int64
	// Damage is what Open could not use.
	Damage []Damage
	// Compaction is why the file could not be rewritten; it only grows meanwhile.
	Compaction error
}

// Open takes the file for this process, making it if there is none, and replays it. Its directory
// must exist. What the file's damage cost is in Status, and no error.
func Open[V any](path string) (*Journal[V], error) {
	f, err := lock(path)
	if err != nil {
		return nil, fmt.Errorf("open journal %s: %w", path, err)
	}
	j := &Journal[V]{path: path, file: f, live: map[string]entry[V]{}}
	if err := j.load(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("open journal %s: %w", path, err)
	}
	if lost := slices.DeleteFunc(slices.Clone(j.damage), func(d Damage) bool { return d.Torn }); len(lost) > 0 {
		j.spoilt = fmt.Errorf("journal %s was damaged when it was opened (%s; %d such places): entries may have been lost or come back", path, lost[0], len(lost))
		j.compaction = j.compact()
	}
	return j, nil
}

func (j *Journal[V]) load(f *os.File) error {
	data, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	r := replay(data)
	j.damage, j.size, j.sequence = r.damage, r.good, r.sequence
	for _, rec := range r.records {
		j.apply(rec)
	}
	if int64(len(data)) != j.size {
		if err := f.Truncate(j.size); err != nil {
			return err
		}
	}
	if r.unterminated {
		if _, err := f.WriteAt([]byte{'\n'}, j.size); err != nil {
			return j.refused("write", err)
		}
		j.size++
	}
	return nil
}

// apply takes over a replayed record. One that does not decode leaves the key's older value.
func (j *Journal[V]) apply(rec located) {
	if rec.Deleted {
		j.forget(rec.Key)
		return
	}
	e := entry[V]{raw: rec.Value, size: rec.bytes}
	if err := json.Unmarshal(rec.Value, &e.value); err != nil {
		j.damage = append(j.damage, Damage{Offset: rec.offset, Bytes: rec.bytes, Reason: fmt.Sprintf("key %q: %v", rec.Key, err)})
		return
	}
	j.keep(rec.Key, e)
}

func (j *Journal[V]) keep(key string, e entry[V]) {
	j.forget(key)
	j.live[key] = e
	j.liveSize += e.size
}

func (j *Journal[V]) forget(key string) {
	j.liveSize -= j.live[key].size
	delete(j.live, key)
}

// Put records the value. It is in the file when Put returns nil; otherwise the journal is as it
// was before.
func (j *Journal[V]) Put(key string, v V) error {
	if !utf8.ValidString(key) {
		return fmt.Errorf("journal %s: key %q is not UTF-8", j.path, key)
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("journal %s: encode %q: %w", j.path, key, err)
	}
	n, err := j.write(record{Key: key, Value: raw})
	if err != nil {
		return err
	}
	j.keep(key, entry[V]{v, raw, n})
	j.tidy()
	return nil
}

// Delete forgets the key, under the same promise as Put. Deleting the absent is success.
func (j *Journal[V]) Delete(key string) error {
	if _, ok := j.live[key]; !ok {
		return nil
	}
	if _, err := j.write(record{Key: key, Deleted: true}); err != nil {
		return err
	}
	j.forget(key)
	j.tidy()
	return nil
}

// Err is why the last change could not be recorded, or the file not be rewritten, as when its filesystem is
// full; that part is nil once it has succeeded. What others have done to the file is told for good.
func (j *Journal[V]) Err() error { return errors.Join(j.unwritten, j.compaction, j.spoilt) }

// write appends one line with the next number, or leaves the file as it was.
func (j *Journal[V]) write(rec record) (n int64, err error) {
	defer func() { j.unwritten = err }()
	if j.dirty {
		if err := j.file.Truncate(j.size); err != nil {
			return 0, j.refused("remove a half-written line", err)
		}
		j.dirty = false
	}
	if j.altered() {
		if err := j.restore(); err != nil {
			return 0, j.refused("write anew what others have changed", err)
		}
	}
	rec.Sequence = j.sequence + 1
	b, err := encode(rec)
	if err != nil {
		return 0, fmt.Errorf("journal %s: encode %q: %w", j.path, rec.Key, err)
	}
	if _, err := j.file.WriteAt(b, j.size); err != nil {
		j.dirty = j.file.Truncate(j.size) != nil
		return 0, j.refused("write", err)
	}
	j.size += int64(len(b))
	j.sequence = rec.Sequence
	return int64(len(b)), nil
}

// altered says whether the file is not the one that was written: cut, written to, removed or replaced by others.
func (j *Journal[V]) altered() bool {
	have, err := j.file.Stat()
	if err != nil || have.Size() != j.size {
		return true
	}
	named, err := os.Lstat(j.path)
	return err != nil || !os.SameFile(have, named)
}

// restore writes the file anew. If another took its place, that must be nobody's.
func (j *Journal[V]) restore() error {
	have, err := j.file.Stat()
	if err != nil {
		return err
	}
	if named, err := os.Lstat(j.path); err == nil && !os.SameFile(have, named) {
		other, err := lock(j.path)
		if err != nil {
			return err
		}
		defer other.Close()
	}
	if err := j.compact(); err != nil {
		return err
	}
	j.spoilt = fmt.Errorf("journal %s was changed by others while it was in use: it has been written anew", j.path)
	return nil
}

// refused wraps what the filesystem said with the file and the remedy.
func (j *Journal[V]) refused(action string, err error) error {
	remedy := "check its filesystem"
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		remedy = "free space on its filesystem"
	}
	return fmt.Errorf("journal %s: %s: %w: nothing was recorded; %s and retry", j.path, action, err, remedy)
}

// All gives a copy of the map.
func (j *Journal[V]) All() map[string]V {
	all := make(map[string]V, len(j.live))
	for key, e := range j.live {
		all[key] = e.value
	}
	return all
}

// Status describes the file as it is now, and the damage found when it was opened.
func (j *Journal[V]) Status() Status {
	return Status{j.path, len(j.live), j.size, j.liveSize, slices.Clone(j.damage), j.compaction}
}

// Close lets another process open the journal.
func (j *Journal[V]) Close() error { return j.file.Close() }

// tidy rewrites the file once most of it is garbage. A failure costs nothing but space; it is
// tried again when the file has grown further.
func (j *Journal[V]) tidy() {
	if j.size < max(minCompaction, j.compactAt) || j.size-j.liveSize <= j.liveSize {
		return
	}
	j.compactAt = j.size + minCompaction
	if j.compaction = j.compact(); j.compaction == nil {
		j.compactAt = 0
	}
}

// compact writes the live records to a new file, which is locked before it takes the old one's
// name, so that the journal is never without its lock.
func (j *Journal[V]) compact() error {
	next := &Journal[V]{path: j.path + ".new", live: map[string]entry[V]{}, sequence: j.sequence}
	f, err := lock(next.path)
	if err != nil {
		return fmt.Errorf("rewrite journal: %s: %w", next.path, err)
	}
	next.file = f
	err = f.Truncate(0)
	for _, key := range slices.Sorted(maps.Keys(j.live)) {
		if err != nil {
			break
		}
		e := j.live[key]
		e.size, err = next.write(record{Key: key, Value: e.raw})
		next.keep(key, e)
	}
	if err == nil {
		err = os.Rename(next.path, j.path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("rewrite journal: %w", err), f.Close(), os.Remove(next.path))
	}
	old := j.file
	j.file, j.live, j.size, j.liveSize, j.sequence, j.dirty = f, next.live, next.size, next.liveSize, next.sequence, false
	return old.Close()
}

// lock opens the file and takes its lock. The name may have passed on to a rewritten file
// between the two; then the lock is worth nothing, and it tries again.
func lock(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		same, err := take(f, path)
		if err == nil && same {
			return f, nil
		}
		f.Close()
		if err != nil {
			return nil, err
		}
	}
}

func take(f *os.File, path string) (same bool, err error) {
	have, err := f.Stat()
	if err != nil {
		return false, err
	}
	if !have.Mode().IsRegular() {
		return false, errors.New("not a regular file: remove it")
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, ErrLocked
	}
	if err != nil {
		return false, fmt.Errorf("lock: %w", err)
	}
	named, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(have, named), err
}
