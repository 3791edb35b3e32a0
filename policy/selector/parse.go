// SPDX-License-Identifier: Apache-2.0

package selector

import (
	"slices"
	"strconv"
	"strings"
)

// What an error says was wanted.
const (
	wantTerm     = "a label name, has(), all(), global(), ! or ("
	wantOperator = "==, !=, in, not in, contains, starts with or ends with"
	wantName     = "a label name"
	wantString   = "a quoted string"
	wantElement  = "a quoted string or }"
	wantMore     = ", or }"
	wantJoin     = "&&, || or the end"
	wantJoinIn   = "&&, || or )"

	wantShorter     = "at most 65536 bytes"
	wantShallower   = "at most 100 brackets inside each other"
	wantShorterName = "a label name of at most 512 characters"
)

// A parser descends through the grammar: or → and → term → comparison. Each method skips the spaces
// before what it reads, and leaves those behind it.
type parser struct {
	text  string
	pos   int // in bytes
	depth int // open brackets
}

func parse(text string) (*node, error) {
	if len(text) > MaxLength {
		return nil, tooLong(text)
	}
	p := parser{text: text}
	if p.space(); p.pos == len(text) {
		return &node{op: opAll}, nil
	}
	root, err := p.or()
	if err != nil {
		return nil, err
	}
	if p.space(); p.pos < len(text) {
		return nil, p.fail(wantJoin)
	}
	return root, nil
}

func (p *parser) or() (*node, error) { return p.join(opOr, "||", p.and) }

func (p *parser) and() (*node, error) { return p.join(opAnd, "&&", p.term) }

// join reads one or more operands with symbol between them.
func (p *parser) join(o op, symbol string, operand func() (*node, error)) (*node, error) {
	var operands []*node
	for more := true; more; more = p.accept(symbol) {
		n, err := operand()
		if err != nil {
			return nil, err
		}
		operands = append(operands, n)
	}
	if p.peek() == symbol[0] {
		return nil, p.fail(symbol)
	}
	if len(operands) == 1 {
		return operands[0], nil
	}
	joined := &node{op: o}
	for _, n := range operands {
		joined.adopt(n)
	}
	return joined, nil
}

// adopt adds an operand, or, as (a && b) && c is a && b && c, the operands of the operand.
func (n *node) adopt(operand *node) {
	if operand.op == n.op && !operand.negated {
		n.kids = append(n.kids, operand.kids...)
		return
	}
	n.kids = append(n.kids, operand)
}

// term reads a comparison, a function or a bracket, with any number of ! before it.
func (p *parser) term() (*node, error) {
	negated := false
	for p.accept("!") {
		negated = !negated
	}
	var n *node
	var err error
	if p.accept("(") {
		n, err = p.group()
	} else {
		n, err = p.named()
	}
	if err != nil {
		return nil, err
	}
	n.negated = n.negated != negated
	return n, nil
}

// group reads what follows a bracket, and its counterpart.
func (p *parser) group() (*node, error) {
	if p.depth == MaxDepth {
		p.pos--
		return nil, p.fail(wantShallower)
	}
	p.depth++
	n, err := p.or()
	if err != nil {
		return nil, err
	}
	if !p.accept(")") {
		return nil, p.fail(wantJoinIn)
	}
	p.depth--
	return n, nil
}

// named reads what begins with a name.
func (p *parser) named() (*node, error) {
	start := p.pos
	word := p.word()
	if word == "" {
		return nil, p.fail(wantTerm)
	}
	if strings.HasPrefix(p.text[p.pos:], "(") {
		switch word {
		case "has":
			return p.hasLabel()
		case "all":
			return p.withoutArgument(opAll)
		case "global":
			return p.withoutArgument(opGlobal)
		}
	}
	if len(word) > MaxNameLength {
		p.pos = start
		return nil, p.fail(wantShorterName)
	}
	return p.comparison(word)
}

func (p *parser) hasLabel() (*node, error) {
	p.accept("(")
	p.space()
	start := p.pos
	key := p.word()
	switch {
	case key == "":
		return nil, p.fail(wantName)
	case len(key) > MaxNameLength:
		p.pos = start
		return nil, p.fail(wantShorterName)
	case !p.accept(")"):
		return nil, p.fail(")")
	}
	return &node{op: opHas, key: key}, nil
}

func (p *parser) withoutArgument(o op) (*node, error) {
	p.accept("(")
	if !p.accept(")") {
		return nil, p.fail(")")
	}
	return &node{op: o}, nil
}

// comparison reads what follows a label's name.
func (p *parser) comparison(key string) (*node, error) {
	n := &node{key: key}
	set, err := p.operator(n)
	if err != nil {
		return nil, err
	}
	if !set {
		value, err := p.quoted(wantString)
		n.values = []string{value}
		return n, err
	}
	if n.values, err = p.set(); err != nil {
		return nil, err
	}
	if len(n.values) == 0 {
		// No value is in the empty set.
		return &node{op: opAll, negated: !n.negated}, nil
	}
	return n, nil
}

// operator reads an operator into n, and says whether a set follows it.
func (p *parser) operator(n *node) (set bool, err error) {
	p.space()
	if p.accept("==") {
		n.op = opIn
		return false, nil
	}
	if p.accept("!=") {
		n.op, n.negated = opIn, true
		return false, nil
	}
	if p.peek() == '=' {
		return false, p.fail("==")
	}
	start := p.pos
	switch p.word() {
	case "in":
		n.op = opIn
		return true, nil
	case "notin":
		n.op, n.negated = opIn, true
		return true, nil
	case "not":
		n.op, n.negated = opIn, true
		return true, p.keyword("in")
	case "contains":
		n.op = opContains
		return false, nil
	case "startswith":
		n.op = opStarts
		return false, nil
	case "starts":
		n.op = opStarts
		return false, p.keyword("with")
	case "endswith":
		n.op = opEnds
		return false, nil
	case "ends":
		n.op = opEnds
		return false, p.keyword("with")
	}
	p.pos = start
	return false, p.fail(wantOperator)
}

func (p *parser) keyword(want string) error {
	p.space()
	start := p.pos
	if p.word() != want {
		p.pos = start
		return p.fail(want)
	}
	return nil
}

// set reads quoted strings in braces. A comma may follow the last one.
func (p *parser) set() ([]string, error) {
	if !p.accept("{") {
		return nil, p.fail("{")
	}
	var values []string
	for !p.accept("}") {
		value, err := p.quoted(wantElement)
		if err != nil {
			return nil, err
		}
		values = append(values, value)
		if p.accept(",") {
			continue
		}
		if !p.accept("}") {
			return nil, p.fail(wantMore)
		}
		break
	}
	slices.Sort(values)
	return slices.Compact(values), nil
}

func (p *parser) quoted(want string) (string, error) {
	quote := p.peek()
	if quote != '"' && quote != '\'' {
		return "", p.fail(want)
	}
	start := p.pos
	length := strings.IndexByte(p.text[start+1:], quote)
	if length < 0 {
		p.pos = len(p.text)
		return "", p.fail("a closing " + string(rune(quote)) + " for the one at column " + strconv.Itoa(p.column(start)))
	}
	p.pos = start + 1 + length + 1
	return p.text[start+1 : start+1+length], nil
}

// word reads what a label's name is made of, at once: no spaces are skipped.
func (p *parser) word() string {
	start := p.pos
	for p.pos < len(p.text) && isNameByte(p.text[p.pos]) {
		p.pos++
	}
	return p.text[start:p.pos]
}

// accept reads symbol if it comes next.
func (p *parser) accept(symbol string) bool {
	p.space()
	if !strings.HasPrefix(p.text[p.pos:], symbol) {
		return false
	}
	p.pos += len(symbol)
	return true
}

// peek gives the next byte that is no space, and 0 at the end.
func (p *parser) peek() byte {
	if p.space(); p.pos == len(p.text) {
		return 0
	}
	return p.text[p.pos]
}

func (p *parser) space() {
	for p.pos < len(p.text) && (p.text[p.pos] == ' ' || p.text[p.pos] == '\t') {
		p.pos++
	}
}

func isNameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		c == '_' || c == '.' || c == '/' || c == '-'
}
