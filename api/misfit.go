// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"strings"

	kjson "sigs.k8s.io/json"
)

// fits says whether the text decodes as an object of the kind.
func fits(kind Kind, text any) bool {
	data, err := json.Marshal(text)
	return err != nil || kjson.UnmarshalCaseSensitivePreserveInts(data, New(kind)) == nil
}

// misfit finds the field that does not decode by trying each alone: an error of a field's own
// decoder (durations, times) does not name the field.
func misfit(kind Kind, data []byte) string {
	var sections map[string]map[string]json.RawMessage
	if kind == "" || json.Unmarshal(data, &sections) != nil {
		// A section that is no mapping (kind, apiVersion) does not matter: the others are still set.
		if sections == nil {
			return ""
		}
	}
	for section, fields := range sections {
		for field, value := range fields {
			if !fits(kind, map[string]any{section: map[string]any{field: value}}) {
				return section + "." + field
			}
		}
	}
	return ""
}

// exactly gives the path of the value that does not decode: field, which is what the decoder says, has neither places in
// lists nor keys of mappings. They are found by trying each alone.
func exactly(kind Kind, data []byte, field string) string {
	if kind == "" {
		return field
	}
	s := misfitSearch{kind: kind, value: data, around: func(value any) any { return value }}
	for name := range strings.SplitSeq(field, ".") {
		if !s.enter(name) {
			return field
		}
		for s.enterList() {
		}
	}
	s.enterMapping()
	return s.path
}

// misfitSearch is on its way to a value that does not decode.
type misfitSearch struct {
	kind  Kind
	path  string
	value json.RawMessage
	// around gives the object with nothing in it but another value in this one's place.
	around func(value any) any
}

// enter goes to a field of a mapping.
func (s *misfitSearch) enter(name string) bool {
	var fields map[string]json.RawMessage
	if json.Unmarshal(s.value, &fields) != nil || fields[name] == nil {
		return false
	}
	outside := s.around
	s.around = func(value any) any { return outside(map[string]any{name: value}) }
	s.path, s.value = strings.TrimPrefix(s.path+"."+name, "."), fields[name]
	return true
}

// enterList goes to the first item that does not decode, if this is a list with one.
func (s *misfitSearch) enterList() bool {
	var items []json.RawMessage
	if json.Unmarshal(s.value, &items) != nil || !fits(s.kind, s.around([]any{})) { // or no list is wanted here
		return false
	}
	outside := s.around
	inside := func(value any) any { return outside([]any{value}) }
	for i, item := range items {
		if !fits(s.kind, inside(item)) {
			s.path, s.value, s.around = index(s.path, i), item, inside
			return true
		}
	}
	return false
}

// enterMapping adds the first key in order whose value does not decode, if this is a mapping with one.
func (s *misfitSearch) enterMapping() {
	var entries map[string]json.RawMessage
	if json.Unmarshal(s.value, &entries) != nil || !fits(s.kind, s.around(map[string]any{})) { // or no mapping is wanted here
		return
	}
	for _, key := range sortedKeys(entries) {
		if !fits(s.kind, s.around(map[string]any{key: entries[key]})) {
			s.path = entry(s.path, key)
			return
		}
	}
}
