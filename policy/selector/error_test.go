// SPDX-License-Identifier: Apache-2.0

package selector_test

import (
	"errors"
	"strings"
	"testing"

	"korat/policy/selector"
)

const (
	term     = "want a label name, has(), all(), global(), ! or ("
	operator = "want ==, !=, in, not in, contains, starts with or ends with"
)

func TestErrors(t *testing.T) {
	tests := []struct{ text, want string }{
		{"a == ", "6: want a quoted string"},
		{"a ==", "5: want a quoted string"},
		{"a == b", "6: want a quoted string, have `b`"},
		{"a == {'b'}", "6: want a quoted string, have `{`"},
		{"a != ", "6: want a quoted string"},
		{"a contains", "11: want a quoted string"},
		{"a starts with b", "15: want a quoted string, have `b`"},
		{"a ends with has(b)", "13: want a quoted string, have `has`"},
		// Where an expression is due.
		{"!", "2: " + term},
		{"()", "2: " + term + ", have `)`"},
		{"(", "2: " + term},
		{"has(a) &&", "10: " + term},
		{"has(a) || && has(b)", "11: " + term + ", have `&&`"},
		{"&& has(a)", "1: " + term + ", have `&&`"},
		{"== 'b'", "1: " + term + ", have `==`"},
		{"'a' == 'b'", "1: " + term + ", have `'`"},
		{"!= 'b'", "2: " + term + ", have `=`"},
		{"ä == 'b'", "1: " + term + ", have `ä`"},
		{"a == 'ä' && €", "13: " + term + ", have `€`"},
		{"a == 'b' && \x80", "13: " + term + `, have "\x80"`},
		{"a == 'b' && \u202e", "13: " + term + `, have "\u202e"`},
		{"a == 'b' && `", "13: " + term + ", have \"`\""},
		// After a name.
		{"a", "2: " + operator},
		{"a b", "3: " + operator + ", have `b`"},
		{"a = 'b'", "3: want ==, have `=`"},
		{"a ! 'b'", "3: " + operator + ", have `!`"},
		{"a < 'b'", "3: " + operator + ", have `<`"},
		{"a inside 'b'", "3: " + operator + ", have `inside`"},
		{"a IN {'b'}", "3: " + operator + ", have `IN`"},
		{"a starts", "9: want with"},
		{"a starts foo 'b'", "10: want with, have `foo`"},
		{"a ends 'b'", "8: want with, have `'`"},
		{"a not {'b'}", "7: want in, have `{`"},
		{"a not contains 'b'", "7: want in, have `contains`"},
		{"not has(a)", "5: " + operator + ", have `has`"},
		{"has (a)", "5: " + operator + ", have `(`"},
		{"foo()", "4: " + operator + ", have `(`"},
		// Functions.
		{"has(", "5: want a label name"},
		{"has()", "5: want a label name, have `)`"},
		{"has('a')", "5: want a label name, have `'`"},
		{"has(a", "6: want )"},
		{"has(a b)", "7: want ), have `b`"},
		{"all(", "5: want )"},
		{"all(a)", "5: want ), have `a`"},
		{"global('a')", "8: want ), have `'`"},
		// Sets.
		{"a in", "5: want {"},
		{"a in 'b'", "6: want {, have `'`"},
		{"a not in ('b')", "10: want {, have `(`"},
		{"a in {", "7: want a quoted string or }"},
		{"a in {b}", "7: want a quoted string or }, have `b`"},
		{"a in {,}", "7: want a quoted string or }, have `,`"},
		{"a in {'b',,}", "11: want a quoted string or }, have `,`"},
		{"a in {'b'", "10: want , or }"},
		{"a in {'b' 'c'}", "11: want , or }, have `'`"},
		// Strings.
		{"a == 'b", "8: want a closing ' for the one at column 6"},
		{`a == 'ä' && b == "c'`, `21: want a closing " for the one at column 18`},
		{"a in {'b}", "10: want a closing ' for the one at column 7"},
		{"a == 'b''", "9: want &&, || or the end, have `'`"},
		{`a == 'it\'s'`, "11: want &&, || or the end, have `s`"},
		// After an expression.
		{"has(a) has(b)", "8: want &&, || or the end, have `has`"},
		{"has(a))", "7: want &&, || or the end, have `)`"},
		{"has(a), has(b)", "7: want &&, || or the end, have `,`"},
		{"(has(a)", "8: want &&, || or )"},
		{"(has(a) has(b))", "9: want &&, || or ), have `has`"},
		{"has(a) & has(b)", "8: want &&, have `&`"},
		{"has(a) | has(b)", "8: want ||, have `|`"},
		{"has(a) &&& has(b)", "10: " + term + ", have `&`"},
		{"a == 'b'\n", "9: want &&, || or the end, have a line break (a selector is one line)"},
		{"a == 'b' &&\r\nhas(c)", "12: " + term + ", have a line break (a selector is one line)"},
		{"a == 'b' \x00", "10: want &&, || or the end, have " + `"\x00"`},
	}
	for _, tt := range tests {
		s, err := selector.Parse(tt.text)
		var e *selector.Error
		if !errors.As(err, &e) {
			t.Errorf("%q is read as %s, want the error %s", tt.text, s, tt.want)
			continue
		}
		if _, have, _ := strings.Cut(err.Error(), ": column "); have != tt.want {
			t.Errorf("%q\nhave %s\nwant %s", tt.text, have, tt.want)
		}
	}
}

func TestErrorText(t *testing.T) {
	long := strings.Repeat("has(a) && ", 10)
	tests := []struct{ text, want string }{
		{"a == ", "selector `a == `: column 6: want a quoted string"},
		{"a == 'ä' & b", "selector `a == 'ä' & b`: column 10: want &&, have `&`"},
		{"a\n", `selector "a\n": column 2: ` + operator + ", have a line break (a selector is one line)"},
		{
			long + "a = 'b' && " + long,
			"selector `…s(a) && has(a) && has(a) && has(a) && a = 'b' && has(a) && has(a) && has(a) && h…`: column 103: want ==, have `=`",
		},
		{
			"a " + strings.Repeat("b", 50) + " 'c'",
			"selector `a bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb…`: column 3: " + operator + ", have `" + strings.Repeat("b", 40) + "…`",
		},
	}
	for _, tt := range tests {
		_, err := selector.Parse(tt.text)
		var e *selector.Error
		if !errors.As(err, &e) {
			t.Errorf("%q: %v, want an Error", tt.text, err)
			continue
		}
		if e.Error() != tt.want {
			t.Errorf("have %s\nwant %s", e.Error(), tt.want)
		}
	}
}

func TestLimits(t *testing.T) {
	nested := func(n int) string { return strings.Repeat("!(", n) + "has(a) && has(b)" + strings.Repeat(")", n) }
	padded := func(n int) string { return "has(a)" + strings.Repeat(" ", n-len("has(a)")) }
	// All of it quoted in one comparison, so that the canonical form is as long.
	exact := func(n int) string { return `a == "` + strings.Repeat("b", n-len(`a == ""`)) + `"` }
	tests := []struct{ name, text, want string }{
		{"deep", nested(selector.MaxDepth), ""},
		{"too deep", nested(selector.MaxDepth + 1), "column 202: want at most 100 brackets inside each other, have `(`"},
		{"far too deep", strings.Repeat("(", selector.MaxLength), "column 101: want at most 100 brackets inside each other, have `(`"},
		{"not nested", strings.Repeat("(has(a)) && ", selector.MaxDepth+1) + "(has(a))", ""},
		{"many negations", strings.Repeat("!", selector.MaxLength-6) + "has(a)", ""},
		{"long", padded(selector.MaxLength), ""},
		{"long in canonical form", exact(selector.MaxLength), ""},
		{"too long", padded(selector.MaxLength + 1), "column 65537: want at most 65536 bytes"},
		{"too long, of two-byte characters", "a='" + strings.Repeat("ä", selector.MaxLength), "column 32770: want at most 65536 bytes"},
		{
			"too long in canonical form", strings.Repeat("has(a)&&", selector.MaxLength/8-1) + "has(a)",
			"column 65535: want at most 65536 bytes when written with one space around each operator",
		},
		{"long name", strings.Repeat("a", selector.MaxNameLength) + " == 'b'", ""},
		{"long name in has", "has(" + strings.Repeat("a", selector.MaxNameLength) + ")", ""},
		{"too long name", strings.Repeat("a", selector.MaxNameLength+1) + " == 'b'", "column 1: want a label name of at most 512 characters, have `" + strings.Repeat("a", 40) + "…`"},
		{"too long name in has", "has( " + strings.Repeat("a", selector.MaxNameLength+1) + ")", "column 6: want a label name of at most 512 characters, have `" + strings.Repeat("a", 40) + "…`"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := selector.Parse(tt.text)
			if tt.want != "" {
				if err == nil || !strings.HasSuffix(err.Error(), tt.want) {
					t.Errorf("have %v\nwant %s", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if again, err := selector.Parse(s.String()); err != nil || !again.Equal(s) {
				t.Errorf("the canonical form does not read back: %v", err)
			}
			s.Matches(nil)
			s.Requirements()
		})
	}
}
