// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
)

// record is one line. Its checksum is appended as the last field, "crc", of the JSON object and
// covers the bytes before it; that keeps the file readable by any JSON tool.
type record struct {
	Sequence uint64          `json:"seq"`
	Key      string          `json:"key"`
	Value    json.RawMessage `json:"value,omitempty"`
	Deleted  bool            `json:"deleted,omitempty"`
}

// The fixed parts of a line: {"seq":…,"crc":"0123abcd"}
const (
	head    = `{"seq":`
	mark    = `,"crc":"`
	tail    = `"}`
	trailer = len(mark) + 2*crc32.Size + len(tail)
)

// maxSequence is the largest integer that every JSON tool reads exactly.
const maxSequence = 1 << 53

// encode gives the record's line.
func encode(rec record) ([]byte, error) {
	b, err := json.Marshal(rec)
	if err != nil {
		return nil, err
	}
	body := b[:len(b)-1]
	return fmt.Appendf(nil, "%s%s%08x%s\n", body, mark, crc32.ChecksumIEEE(body), tail), nil
}

// decode reads a line without its newline.
func decode(line []byte) (record, error) {
	var rec record
	cut := len(line) - trailer
	if cut < len(head) || !bytes.HasPrefix(line, []byte(head)) || !bytes.HasPrefix(line[cut:], []byte(mark)) ||
		!bytes.HasSuffix(line, []byte(tail)) {
		return rec, fmt.Errorf("not a record")
	}
	sum := line[cut+len(mark) : len(line)-len(tail)]
	var want [crc32.Size]byte
	if _, err := hex.Decode(want[:], sum); err != nil {
		return rec, fmt.Errorf("not a record")
	}
	if have := fmt.Sprintf("%08x", crc32.ChecksumIEEE(line[:cut])); have != string(sum) {
		return rec, fmt.Errorf("checksum mismatch: have %s, want %s", have, sum)
	}
	if err := json.Unmarshal(append(line[:cut:cut], '}'), &rec); err != nil {
		return rec, err
	}
	if rec.Sequence == 0 || rec.Sequence > maxSequence {
		return rec, fmt.Errorf("sequence number %d is out of range", rec.Sequence)
	}
	return rec, nil
}

// located is a record and where it was.
type located struct {
	record
	offset, bytes int64
}

// replayed is what a file's bytes came to.
type replayed struct {
	records []located
	damage  []Damage
	// good is how much of the file to keep; what follows is a torn line.
	good int64
	// unterminated: the good part lacks its last newline.
	unterminated bool
	sequence     uint64
}

// replay reads a whole file. It never fails: what can't be used becomes Damage.
func replay(data []byte) replayed {
	var r replayed
	for start := 0; start < len(data); {
		line, ended := data[start:], false
		if n := bytes.IndexByte(line, '\n'); n >= 0 {
			line, ended = line[:n], true
		}
		if ended {
			r.line(line, start)
			start += len(line) + 1
			r.good = int64(start)
			continue
		}
		r.last(line, start)
		break
	}
	return r
}

// line takes a line that ended with a newline.
func (r *replayed) line(line []byte, offset int) {
	if rec, err := decode(line); err == nil {
		r.take(located{rec, int64(offset), int64(len(line) + 1)})
	} else {
		r.salvage(line, offset, err)
	}
}

// last takes what follows the last newline: a write that a crash or truncation cut short. If just
// the newline is missing, the record is complete and counts.
func (r *replayed) last(line []byte, offset int) {
	end := offset
	for _, rec := range find(line, offset) {
		r.take(rec)
		end = int(rec.offset + rec.bytes - 1)
	}
	r.good, r.unterminated = int64(end), end > offset
	if rest := offset + len(line) - end; rest > 0 {
		r.damage = append(r.damage, Damage{Offset: int64(end), Bytes: int64(rest), Torn: true, Reason: "the last line is incomplete"})
	}
}

// salvage takes the whole records out of a damaged line. There are some when the newline between two
// lines is what was damaged.
func (r *replayed) salvage(line []byte, offset int, why error) {
	lost := len(line)
	for _, rec := range find(line, offset) {
		r.take(rec)
		lost -= int(rec.bytes) - 1
	}
	r.damage = append(r.damage, Damage{Offset: int64(offset), Bytes: int64(lost), Reason: why.Error()})
}

// find looks for whole records anywhere in a line.
func find(line []byte, offset int) []located {
	var found []located
	for at := 0; at < len(line); {
		n := bytes.Index(line[at:], []byte(head))
		if n < 0 {
			break
		}
		at += n
		if rec, size, ok := prefix(line[at:]); ok {
			found = append(found, located{rec, int64(offset + at), int64(size + 1)})
			at += size
		} else {
			at += len(head)
		}
	}
	return found
}

// prefix reads the record that b starts with. A value may itself have a field called crc; the
// few tries allow for that, and bound the work on garbage.
func prefix(b []byte) (rec record, size int, ok bool) {
	const tries = 4
	for at, try := 0, 0; try < tries; try++ {
		n := bytes.Index(b[at:], []byte(mark))
		if n < 0 || at+n+trailer > len(b) {
			return rec, 0, false
		}
		size = at + n + trailer
		if rec, err := decode(b[:size]); err == nil {
			return rec, size, true
		}
		at += n + len(mark)
	}
	return rec, 0, false
}

// take accepts a record unless it repeats what came before.
func (r *replayed) take(rec located) {
	switch {
	case rec.Sequence <= r.sequence:
		r.damage = append(r.damage, Damage{
			Offset: rec.offset, Bytes: rec.bytes,
			Reason: fmt.Sprintf("record %d comes after record %d", rec.Sequence, r.sequence),
		})
		return
	case len(r.records) > 0 && rec.Sequence > r.sequence+1:
		r.damage = append(r.damage, Damage{
			Offset: rec.offset,
			Reason: fmt.Sprintf("records %d to %d are missing", r.sequence+1, rec.Sequence-1),
		})
	}
	r.sequence = rec.Sequence
	r.records = append(r.records, rec)
}
