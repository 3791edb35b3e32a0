// SPDX-License-Identifier: Apache-2.0

package selector

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Error says where a text stops being a selector, and why.
type Error struct {
	Text string
	// Column counts characters from 1; it is one more than there are when the text ends too soon.
	Column int
	// Want names what may stand there.
	Want string
	// Have is what does stand there, quoted; it is empty at the end of the text.
	Have string
}

// Of a longer text an error shows so many characters before and after the column.
const around = 40

// Error gives one line, with the text, or with the part around the column if it is long.
func (e *Error) Error() string { return "selector " + quote(e.excerpt()) + ": " + e.Problem() }

// Problem is Error without the text: "column 5: want ==, have `=`".
func (e *Error) Problem() string {
	problem := fmt.Sprintf("column %d: want %s", e.Column, e.Want)
	if e.Have != "" {
		problem += ", have " + e.Have
	}
	return problem
}

// excerpt gives the text to show.
func (e *Error) excerpt() string {
	runes, before := []rune(e.Text), e.Column-1
	start, end := max(0, before-around), min(len(runes), before+around)
	text := string(runes[start:end])
	if start > 0 {
		text = "…" + text
	}
	if end < len(runes) {
		text += "…"
	}
	return text
}

// fail gives the error for the parser's place.
func (p *parser) fail(want string) error {
	p.space()
	return &Error{Text: p.text, Column: p.column(p.pos), Want: want, Have: p.next()}
}

// tooLong gives the error for a text over MaxLength. It keeps only as much of it as is allowed.
func tooLong(text string) error {
	end := MaxLength
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	p := parser{text: text[:end], pos: end}
	return p.fail(wantShorter)
}

// column gives the column of a place that is given in bytes.
func (p *parser) column(pos int) int { return utf8.RuneCountInString(p.text[:pos]) + 1 }

// next gives what comes next, for a person.
func (p *parser) next() string {
	rest := p.text[p.pos:]
	if rest == "" {
		return ""
	}
	if rest[0] == '\n' || rest[0] == '\r' {
		return "a line break (a selector is one line)"
	}
	if strings.HasPrefix(rest, "&&") || strings.HasPrefix(rest, "||") || strings.HasPrefix(rest, "==") ||
		strings.HasPrefix(rest, "!=") {
		return quote(rest[:2])
	}
	word := parser{text: rest}
	if name := word.word(); len(name) > around {
		return quote(name[:around] + "…")
	} else if name != "" {
		return quote(name)
	}
	_, size := utf8.DecodeRuneInString(rest)
	return quote(rest[:size])
}

// quote puts backquotes around s; if s is not plain it is written as a Go string instead.
func quote(s string) string {
	for _, r := range s {
		if r == '`' || r == utf8.RuneError || !strconv.IsPrint(r) {
			return strconv.Quote(s)
		}
	}
	return "`" + s + "`"
}
