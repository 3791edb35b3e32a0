// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	yamlv2 "go.yaml.in/yaml/v2"
	"sigs.k8s.io/yaml"
)

// documents splits manifests into documents and gives each as JSON; empty ones are left out.
func documents(data []byte) ([]json.RawMessage, error) {
	var docs []json.RawMessage
	for _, c := range split(data) {
		values, err := c.values()
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", len(docs)+1, err)
		}
		docs = append(docs, values...)
	}
	return docs, nil
}

// chunk is the text between two document markers.
type chunk struct {
	text []byte
	// line is the number of lines before it.
	line int
}

// split cuts at the document markers of YAML (YAML 1.2, section 9.1): "---" and "..." at the
// beginning of a line, followed by white space. What follows on the marker's line belongs to the
// next document. Directives stand before a document's first marker and belong to it (section 6.8).
func split(data []byte) []chunk {
	var chunks []chunk
	var now chunk
	line := 0
	for l := range bytes.Lines(data) {
		if rest, ok := marker(l); ok && !areDirectives(now.text) {
			chunks = append(chunks, now)
			now = chunk{line: line}
			l = append([]byte("   "), rest...)
		}
		now.text = append(now.text, l...)
		line++
	}
	return append(chunks, now)
}

// areDirectives says whether there are directives in the text, and nothing else but comments.
func areDirectives(text []byte) bool {
	found := false
	for l := range bytes.Lines(text) {
		switch l = bytes.TrimRight(l, " \t\r\n"); {
		case bytes.HasPrefix(l, []byte("%")):
			found = true
		case len(l) > 0 && !bytes.HasPrefix(bytes.TrimLeft(l, " \t"), []byte("#")):
			return false
		}
	}
	return found
}

func marker(line []byte) (rest []byte, ok bool) {
	for _, m := range []string{"---", "..."} {
		if rest, ok := bytes.CutPrefix(line, []byte(m)); ok && (len(rest) == 0 || bytes.ContainsAny(rest[:1], " \t\r\n")) {
			return rest, true
		}
	}
	return nil, false
}

// values gives the JSON values of a chunk: several if it is JSON, at most one if it is YAML.
func (c chunk) values() ([]json.RawMessage, error) {
	if values, ok := jsonValues(c.text); ok {
		return values, nil
	}
	value, err := yaml.YAMLToJSONStrict(c.text)
	if err != nil {
		return nil, c.yamlError(err)
	}
	if string(value) == "null" {
		return nil, nil
	}
	// The YAML parser stops silently at the end of a top-level flow mapping or scalar.
	rest := yamlv2.NewDecoder(bytes.NewReader(c.text))
	var ignored any
	if rest.Decode(&ignored) == nil && !errors.Is(rest.Decode(&ignored), io.EOF) {
		return nil, errors.New(`text after the end of the document: separate documents with a line "---"`)
	}
	return []json.RawMessage{value}, nil
}

// jsonValues splits a sequence of JSON objects.
func jsonValues(text []byte) (values []json.RawMessage, ok bool) {
	if !bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		return nil, false
	}
	d := json.NewDecoder(bytes.NewReader(text))
	for {
		var v json.RawMessage
		switch err := d.Decode(&v); {
		case errors.Is(err, io.EOF):
			return values, true
		case err != nil:
			return nil, false
		}
		values = append(values, v)
	}
}

// yamlError names the object, if the text is YAML at all (duplicate keys are only refused, not
// unreadable), and turns the parser's line numbers into the whole input's.
func (c chunk) yamlError(err error) error {
	name := ""
	var h header
	if value, lenient := yaml.YAMLToJSON(c.text); lenient == nil && json.Unmarshal(value, &h) == nil && h.Kind != "" {
		name = Key{Kind(h.Kind), h.Metadata.Namespace, h.Metadata.Name}.String() + ": "
	}
	text := regexp.MustCompile(`\bline \d+`).ReplaceAllStringFunc(err.Error(), func(s string) string {
		n, _ := strconv.Atoi(s[len("line "):])
		return fmt.Sprintf("line %d", n+c.line)
	})
	text = strings.TrimPrefix(text, "yaml: ")
	text = strings.TrimPrefix(text, "unmarshal errors:\n  ")
	text = strings.ReplaceAll(text, "already set in map", c.twice())
	text = strings.ReplaceAll(text, "found incompatible YAML document", "%YAML must be 1.1, which is how manifests are read: leave the directive out")
	return errors.New(name + strings.ReplaceAll(text, "\n ", ";"))
}

// twice says what is wrong with a key that the parser has had before. It refuses what YAML's merge keys allow, too: to set
// again what they bring along.
func (c chunk) twice() string {
	if bytes.Contains(c.text, []byte("<<")) {
		return `is given twice, or overrides what "<<" brings along: give each once, without "<<" if they differ`
	}
	return "is given twice: remove one"
}

// typeName says what a manifest holds for a Go type.
func typeName(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Port]():
		return `a port (1..65535), a range of ports ("8000:8010") or the name of one`
	case reflect.TypeFor[KubernetesPort]():
		return "a port (1..65535) or the name of one"
	case reflect.TypeFor[Protocol]():
		return "TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number 1..255"
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64, reflect.Int32:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.Uint16:
		return "a whole number 0..65535"
	case reflect.Uint32:
		return "a whole number 0..4294967295"
	case reflect.Uint64:
		return "a whole number that is not negative"
	case reflect.Slice:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "a mapping"
	default:
		return t.String()
	}
}
