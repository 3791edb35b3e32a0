// SPDX-License-Identifier: Apache-2.0

package api

import "strings"

// maxLabel is the longest that the value of a label and the last part of its key may be.
const maxLabel = 63

const (
	labelKeyRemedy   = "its key must be at most 63 letters, digits, dots, dashes and underscores, beginning and ending with a letter or digit, after an optional DNS name and slash"
	labelValueRemedy = "must be empty or at most 63 letters, digits, dots, dashes and underscores, beginning and ending with a letter or digit"
)

func (c *checker) labels(field string, labels map[string]string) {
	for _, key := range sortedKeys(labels) {
		c.label(entry(field, key), key, labels[key])
	}
}

// label checks the syntax that Kubernetes has for labels.
func (c *checker) label(field, key, value string) {
	if !isQualifiedName(key) {
		c.fail(field, value, labelKeyRemedy)
	}
	if value != "" && !isLabelWord(value) {
		c.fail(field, value, labelValueRemedy)
	}
}

// isQualifiedName says whether s is a label's or annotation's key: a word after an optional DNS-1123 subdomain and a
// slash.
func isQualifiedName(s string) bool {
	domain, word, found := strings.Cut(s, "/")
	if !found {
		return isLabelWord(s)
	}
	return isSubdomain(domain) && isLabelWord(word)
}

func isLabelWord(s string) bool {
	for _, b := range []byte(s) {
		if !isAlphanumeric(b) && b != '.' && b != '-' && b != '_' {
			return false
		}
	}
	return s != "" && len(s) <= maxLabel && isAlphanumeric(s[0]) && isAlphanumeric(s[len(s)-1])
}

func isAlphanumeric(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9'
}

// entry names one entry of a map in a field's path.
func entry(field, key string) string { return field + "[" + key + "]" }
