// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"log/slog"

	"go.uber.org/zap/zapcore"
)

// core passes etcd's own log on to slog. Below warning it is silent: etcd tells of each raft
// election and listener there.
type core struct {
	log   *slog.Logger
	attrs []slog.Attr
}

func (c core) Enabled(level zapcore.Level) bool { return level >= zapcore.WarnLevel }

func (c core) With(fields []zapcore.Field) zapcore.Core {
	return core{c.log, append(c.attrs[:len(c.attrs):len(c.attrs)], attrs(fields)...)}
}

func (c core) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(entry.Level) {
		return checked.AddCore(entry, c)
	}
	return checked
}

func (c core) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	level := slog.LevelWarn
	if entry.Level > zapcore.WarnLevel {
		level = slog.LevelError
	}
	all := append([]slog.Attr{slog.String("message", entry.Message)}, c.attrs...)
	c.log.LogAttrs(context.Background(), level, "embedded etcd", append(all, attrs(fields)...)...)
	return nil
}

func (c core) Sync() error { return nil }

// attrs gives zap's fields as one group, in their order.
func attrs(fields []zapcore.Field) []slog.Attr {
	var all []slog.Attr
	for _, f := range fields {
		e := zapcore.NewMapObjectEncoder()
		f.AddTo(e)
		for key, value := range e.Fields {
			all = append(all, slog.Any(key, value))
		}
	}
	return all
}
