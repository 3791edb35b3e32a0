// SPDX-License-Identifier: Apache-2.0

package api

import (
	"maps"
	"reflect"
	"strings"
)

// What is offered in the place of an unknown field: names that differ by so few letters, and so many kinds that have it.
const (
	maxEdits      = 2
	maxOtherKinds = 4
)

// meant says what may have been meant by a field that the kind does not have: one of the same mapping with nearly the same
// name, or another kind, which has it.
func meant(kind Kind, path string) string {
	mapping, name := "", path
	if dot := strings.LastIndex(path, "."); dot >= 0 {
		mapping, name = path[:dot], path[dot+1:]
	}
	known := sortedKeys(fieldsAt(kind, mapping))
	for edits := range maxEdits + 1 {
		for _, other := range known {
			if edits <= len(other)/3 && near(strings.ToLower(name), strings.ToLower(other), edits) {
				return ": is " + other + " meant?"
			}
		}
	}
	var kinds []string
	for _, info := range kindTable() {
		if _, has := fieldsAt(info.Kind, mapping)[name]; has && info.Kind != kind {
			kinds = append(kinds, info.inManifest())
		}
	}
	if len(kinds) == 0 || len(kinds) > maxOtherKinds {
		return ""
	}
	return ": it is a field of " + strings.Join(kinds, ", ")
}

// inManifest gives the kind's name in manifests, with the apiVersion if two kinds have the same.
func (i KindInfo) inManifest() string {
	if len(apiVersions(i.Manifest)) > 1 {
		return i.Manifest + " of " + i.APIVersion
	}
	return i.Manifest
}

// fieldsAt gives the fields that a mapping of an object of the kind has, by their names in manifests. It is empty for what is
// no mapping with fixed names.
func fieldsAt(kind Kind, path string) map[string]reflect.Type {
	obj := New(kind)
	if obj == nil {
		return nil
	}
	fields := fieldsOf(reflect.TypeOf(obj))
	if path == "" {
		return fields
	}
	for name := range strings.SplitSeq(path, ".") {
		name, _, _ = strings.Cut(name, "[")
		fields = fieldsOf(fields[name])
	}
	return fields
}

func fieldsOf(t reflect.Type) map[string]reflect.Type {
	for t != nil && (t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice) {
		t = t.Elem()
	}
	if t == nil || t.Kind() != reflect.Struct {
		return nil
	}
	fields := map[string]reflect.Type{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "" && f.Anonymous:
			maps.Copy(fields, fieldsOf(f.Type))
		case name != "" && name != "-":
			fields[name] = f.Type
		}
	}
	return fields
}

// near says whether at most so many letters to insert, remove or replace make b of a.
func near(a, b string, edits int) bool {
	for a != "" && b != "" && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	if a == "" || b == "" || edits == 0 {
		return len(a)+len(b) <= edits
	}
	return near(a[1:], b, edits-1) || near(a, b[1:], edits-1) || near(a[1:], b[1:], edits-1)
}
