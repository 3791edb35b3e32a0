// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	gobgplog "github.com/osrg/gobgp/v3/pkg/log"
)

// logger is GoBGP's log.Logger on top of slog. Its level filters what is printed, never what is
// recorded.
type logger struct {
	log    *slog.Logger
	level  atomic.Int64
	record func(msg string, fields map[string]any)
	// died gets what GoBGP calls fatal; it has room for one.
	died chan error
}

func newLogger(log *slog.Logger, level slog.Level, record func(string, map[string]any)) *logger {
	l := &logger{log: log, record: record, died: make(chan error, 1)}
	l.level.Store(int64(level))
	return l
}

// Panic and Fatal are told of broken invariants. They return, because nothing but the command may
// end the process; what they were told ends Run, and with it the process.
func (l *logger) Panic(msg string, f gobgplog.Fields) { l.die(msg, f) }

// Fatal implements log.Logger.
func (l *logger) Fatal(msg string, f gobgplog.Fields) { l.die(msg, f) }

func (l *logger) die(msg string, f gobgplog.Fields) {
	l.emit(slog.LevelError, msg, f)
	err := errors.New(msg)
	for _, key := range slices.Sorted(maps.Keys(f)) {
		err = fmt.Errorf("%w: %s=%v", err, strings.ToLower(key), f[key])
	}
	select {
	case l.died <- err:
	default:
	}
}

// Error implements log.Logger.
func (l *logger) Error(msg string, f gobgplog.Fields) { l.emit(slog.LevelError, msg, f) }

// Warn implements log.Logger.
func (l *logger) Warn(msg string, f gobgplog.Fields) { l.emit(slog.LevelWarn, msg, f) }

// Info implements log.Logger.
func (l *logger) Info(msg string, f gobgplog.Fields) { l.emit(slog.LevelInfo, msg, f) }

// Debug implements log.Logger.
func (l *logger) Debug(msg string, f gobgplog.Fields) { l.emit(slog.LevelDebug, msg, f) }

// SetLevel implements log.Logger; the gobgp command's "global log-level" ends here.
func (l *logger) SetLevel(level gobgplog.LogLevel) {
	switch {
	case level >= gobgplog.DebugLevel:
		l.level.Store(int64(slog.LevelDebug))
	case level == gobgplog.InfoLevel:
		l.level.Store(int64(slog.LevelInfo))
	case level == gobgplog.WarnLevel:
		l.level.Store(int64(slog.LevelWarn))
	default:
		l.level.Store(int64(slog.LevelError))
	}
}

// GetLevel implements log.Logger. It says debug whatever is printed: GoBGP logs a failed connect
// only if this says so, and the reason of a session that stays down must be recorded.
func (l *logger) GetLevel() gobgplog.LogLevel { return gobgplog.DebugLevel }

func (l *logger) emit(level slog.Level, msg string, f gobgplog.Fields) {
	l.record(msg, f)
	if int64(level) < l.level.Load() || !l.log.Enabled(context.Background(), level) {
		return
	}
	attrs := make([]slog.Attr, 0, len(f))
	for _, key := range slices.Sorted(maps.Keys(f)) {
		attrs = append(attrs, slog.Any(attrKey(key, f), printable(f[key])))
	}
	rec := slog.NewRecord(time.Now(), level, strings.ToLower(msg), 0)
	rec.AddAttrs(attrs...)
	_ = l.log.Handler().Handle(context.Background(), rec) // as slog.Logger: a log that fails is no reason to stop
}

func attrKey(key string, f gobgplog.Fields) string {
	if key == "Key" && (f["Topic"] == "Peer" || f["Topic"] == "Server") {
		return "peer"
	}
	return strings.NewReplacer("-", "_", " ", "_").Replace(strings.ToLower(key))
}

// printable keeps what the JSON handler can encode; some of GoBGP's values are channels' owners.
func printable(v any) any {
	switch v := v.(type) {
	case string, bool, int, int64, uint8, uint16, uint32, uint64, float64, error:
		return v
	default:
		return fmt.Sprint(v)
	}
}
