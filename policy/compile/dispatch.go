// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"slices"
	"strings"

	"korat/api"
	"korat/policy/chain"
)

// dispatch leads from interfaces to the chains of their endpoints: by their names, and, of what these say nothing of, by
// their link groups.
type dispatch struct {
	claims
	names *tree
	// toGroups and fromGroups are over the numbers of the directions.
	toGroups, fromGroups *tree
	// told are the groups that interfaces have in the kernel, by the interfaces' names.
	told    map[string]uint32
	wires   map[string]*wire
	classes map[number]*class
	// unled says that the chains of what no group leads anywhere are to be written.
	unled bool
	// touched are names whose endpoints or groups may be others, or lead elsewhere.
	touched map[string]struct{}
	// regrouped are those whose interfaces are to have another group.
	regrouped []string
	// apart says that the trees of groups have roots of their own, as branches of names lead there, too. Else these are those
	// of names.
	apart bool
}

func newDispatch() *dispatch {
	return &dispatch{
		claims: claims{map[string][]*endpoint{}}, names: newTree(device), toGroups: newTree(linkGroup), fromGroups: newTree(linkGroup),
		told: map[string]uint32{}, wires: map[string]*wire{}, classes: map[number]*class{}, touched: map[string]struct{}{},
		unled: true,
	}
}

func (d *dispatch) groups(direction api.PolicyType) *tree {
	if direction == api.Egress {
		return d.fromGroups
	}
	return d.toGroups
}

func (d *dispatch) trees() []*tree { return []*tree{d.names, d.toGroups, d.fromGroups} }

// touchAll says that everything may lead elsewhere.
func (d *dispatch) touchAll() {
	d.unled = true
	for name := range d.at {
		d.touched[name] = struct{}{}
	}
	for name := range d.wires {
		d.touched[name] = struct{}{}
	}
	for _, t := range d.trees() {
		t.touchAll()
	}
}

// redispatch lets the interfaces that were touched lead to the chains of their endpoints.
func (c *Compiler) redispatch() {
	d := c.dispatch
	for name := range c.rewire() {
		d.route(name, c.options.Groups)
	}
	if apart := c.options.Groups && d.names.folded(); apart != d.apart {
		d.apart = apart
		for _, t := range d.trees() {
			t.stale[""] = struct{}{}
		}
	}
	if !d.apart && (d.toGroups.isStale("") || d.fromGroups.isStale("")) {
		d.names.stale[""] = struct{}{}
	}
	for _, t := range d.trees() {
		c.writeTree(t)
	}
	if d.unled {
		d.unled = false
		c.writeUnled()
	}
}

// writeUnled writes the chains of packets of which no group says where they go. An interface that gets another group at this
// very moment may have had the new one no more when that was looked for, and the old one: it is looked for once more.
func (c *Compiler) writeUnled() {
	for at := range allSlots() {
		c.board.remove(c.unled(at))
	}
	if !c.options.Groups {
		return
	}
	for at := range c.options.slots() {
		t := c.dispatch.groups(at.direction)
		var rules []chain.Rule
		for _, key := range c.dispatch.arriving(at.direction) {
			if lf := t.leaves[key]; lf != nil {
				rules = append(rules, lf.rules[at.number()])
			}
		}
		c.board.set(c.unled(at), &chain.Chain{Rules: append(rules, c.unknown(at.direction)...)})
	}
}

// unled gives the chain of packets of which no group says where they go.
func (c *Compiler) unled(at slot) chain.Key {
	return chain.Key{Family: at.family, Table: chain.Filter, Name: c.branchName(c.dispatch.groups(at.direction), "none", at.direction)}
}

// arriving gives the keys of a direction's numbers that interfaces are to have instead of others, in order.
func (d *dispatch) arriving(direction api.PolicyType) []string {
	var keys []string
	for n, cl := range d.classes {
		if n.direction == direction && cl.coming > 0 {
			keys = append(keys, written(n))
		}
	}
	slices.Sort(keys)
	return keys
}

// writeTree writes the branches of a tree that have changed.
func (c *Compiler) writeTree(t *tree) {
	for _, key := range t.dropped {
		c.board.remove(key)
	}
	t.dropped = nil
	for prefix := range t.stale {
		b := t.branches[prefix]
		if b == nil {
			continue
		}
		former := b.keys
		b.keys = nil
		for at := range c.options.slots() {
			if rules := c.branch(t, prefix, at); len(rules) > 0 {
				key := chain.Key{Family: at.family, Table: chain.Filter, Name: c.branchName(t, prefix, at.direction)}
				b.keys = append(b.keys, key)
				c.board.set(key, &chain.Chain{Rules: rules})
			}
		}
		for _, key := range former {
			if !slices.Contains(b.keys, key) {
				c.board.remove(key)
			}
		}
	}
	clear(t.stale)
}

// branch gives the rules of a branch: none if another has them. What no rule matches is dropped at last: an interface that
// nobody knows yet.
func (c *Compiler) branch(t *tree, prefix string, at slot) []chain.Rule {
	d := c.dispatch
	groups := d.groups(at.direction)
	switch {
	case t != d.names && (t != groups || prefix == "" && !d.apart):
		return nil
	case t != d.names, prefix != "" && !c.options.Groups:
		return append(c.entries(t, prefix, at), c.end(at)...)
	}
	var rules []chain.Rule
	if prefix == "" {
		rules = prelude(at.direction)
	}
	rules = append(rules, c.entries(t, prefix, at)...)
	if d.apart {
		return append(rules, rule(gotoChain(c.branchName(groups, "", at.direction))))
	}
	return slices.Concat(rules, c.entries(groups, "", at), c.end(at))
}

// end gives what becomes of packets that no rule of the branches has led anywhere.
func (c *Compiler) end(at slot) []chain.Rule {
	if c.options.Groups {
		return []chain.Rule{rule(gotoChain(c.unled(at).Name))}
	}
	return c.unknown(at.direction)
}

// entries gives the rules of a branch's entries.
func (c *Compiler) entries(t *tree, prefix string, at slot) []chain.Rule {
	var rules []chain.Rule
	for _, e := range t.branches[prefix].entries {
		stem, deep := strings.CutSuffix(e, "+")
		switch lf := t.leaves[e]; {
		case deep:
			into := &t.branches[stem].into[at.number()]
			if into.ID == "" {
				*into = rule(gotoChain(c.branchName(t, stem, at.direction)), t.matches(at.direction, e))
			}
			rules = append(rules, *into)
		case lf.to == lead{}:
			rules = append(rules, c.unknown(at.direction, t.matches(at.direction, e))...)
		default:
			rules = append(rules, lf.rules[at.number()])
		}
	}
	return rules
}

// unknown gives what becomes of packets of interfaces that nobody knows.
func (c *Compiler) unknown(d api.PolicyType, conditions ...chain.Condition) []chain.Rule {
	return refuse("Unknown interface", Origin{What: ByInterface, Direction: d}, c.options.deny(chain.Filter), conditions...)
}

// branchName names the chain of a prefix by what distinguishes it.
func (c *Compiler) branchName(t *tree, prefix string, d api.PolicyType) string {
	stem, groups := toWorkloads, toGroup
	if d == api.Egress {
		stem, groups = fromWorkloads, fromGroup
	}
	switch {
	case t != c.dispatch.names && prefix == "":
		return groups + "s"
	case t != c.dispatch.names:
		return groups + "-" + prefix
	case prefix == "":
		return stem
	}
	rest := strings.TrimPrefix(prefix, c.options.InterfacePrefix)
	if name := stem + "-" + rest; len(name) <= chain.MaxName && isPlain(rest) {
		return name
	}
	return fit(strings.TrimSuffix(stem, "dispatch"), rest, false)
}

// device matches an interface by which endpoints send or receive; a name that ends in "+" is a prefix.
func device(d api.PolicyType, name string) chain.Condition {
	if d == api.Egress {
		return chain.In(name)
	}
	return chain.Out(name)
}

// digitBits is of how many bits a digit of a number is.
const digitBits = 3

// bits is of how many bits a number of a direction is in a group, and from which on they are there. In somebody else's
// group that of Ingress may have one more bit.
func bits(d api.PolicyType) (shift, length int) {
	if d == api.Egress {
		return 0, egressBits
	}
	return egressBits, 32 - egressBits
}

// written gives the digits of a number, the lowest first.
func written(n number) string {
	_, length := bits(n.direction)
	text := make([]byte, (length+digitBits-1)/digitBits)
	for i := range text {
		text[i] = '0' + byte(n.value&(1<<digitBits-1))
		n.value >>= digitBits
	}
	return string(text)
}

// linkGroup matches the number, by its digits, of an interface by which endpoints send or receive; digits that end in "+"
// are the lowest ones of several.
func linkGroup(d api.PolicyType, entry string) chain.Condition {
	stem, _ := strings.CutSuffix(entry, "+")
	shift, length := bits(d)
	g := chain.LinkGroup{Side: chain.Destination, Mask: (1<<min(digitBits*len(stem), length) - 1) << shift}
	for i := range len(stem) {
		g.Value |= uint32(stem[i]-'0') << (digitBits*i + shift)
	}
	if d == api.Egress {
		g.Side = chain.Source
	}
	return g
}
