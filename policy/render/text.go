// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// The kernel's limits of names and texts, without the terminating zero.
const (
	maxComment   = 255 // XT_MAX_COMMENT_LEN
	maxReport    = 63  // struct xt_nflog_info
	maxLog       = 29  // struct xt_log_info
	maxInterface = 15  // IFNAMSIZ
	maxSet       = 31  // IPSET_MAXNAMELEN
	// maxLine is the longest line that iptables-restore takes as one.
	maxLine = 10_000
)

// prefix begins the comments that carry a rule's ID.
const prefix = "cali:"

// quote gives a text for people in quotation marks. What is not printable ASCII, or means something to the parser of
// iptables-restore, becomes an underscore; what is too long is cut.
func quote(s string, longest int) string {
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r >= utf8.RuneSelf-1 || strings.ContainsRune("\"'`\\", r) {
			return '_'
		}
		return r
	}, s)
	if strings.HasPrefix(clean, "-") { // some versions take it for an option
		clean = "_" + clean[1:]
	}
	return `"` + clean[:min(len(clean), longest)] + `"`
}

// exact gives a text that programs read in quotation marks: it must stay as it is.
func exact(what, s string, longest int) (string, error) {
	if len(s) > longest {
		return "", fmt.Errorf("%s %q: longer than %d bytes", what, s, longest)
	}
	if quoted := quote(s, longest); quoted == `"`+s+`"` {
		return quoted, nil
	}
	return "", fmt.Errorf("%s %q: only printable ASCII without quotation marks and backslashes can be written", what, s)
}

// name checks the name of a chain, a set or an interface.
func name(what, s string, longest int) error {
	bad := func(r rune) bool { return r <= ' ' || r >= utf8.RuneSelf-1 || strings.ContainsRune("\"'`\\,", r) }
	if s == "" || len(s) > longest || strings.ContainsFunc(s, bad) || s[0] == '-' || s[0] == '!' || s[0] == '#' || s[0] == ':' {
		return fmt.Errorf("%s %q: not a name of 1 to %d bytes of printable ASCII", what, s, longest)
	}
	return nil
}

// words checks a list with commas between its words.
func words(what, s string, known []string) error {
	for word := range strings.SplitSeq(s, ",") {
		if !slices.Contains(known, word) {
			return fmt.Errorf("%s %q: %q is none of %s", what, s, word, strings.Join(known, ", "))
		}
	}
	return nil
}
