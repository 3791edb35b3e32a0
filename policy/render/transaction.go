// SPDX-License-Identifier: Apache-2.0

package render

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"korat/api"
	"korat/policy/chain"
)

// Held is what the kernel has of a chain.
type Held struct {
	// IDs are those of the rules of one of our chains in their order, empty of a rule that is not ours.
	IDs []string
	// Lines are our rules in a chain that is not ours, such as the kernel's own, as iptables-save prints them.
	Lines []string
}

// Change turns what a table has of chains into what is wanted of them.
type Change struct {
	Family api.Family
	Table  chain.Table
	// Have has the chains that exist, as far as they are in Set or Delete, by name.
	Have map[string]Held
	// Set has those that are wanted. Those of Delete are not wanted any more; of a chain that is not ours that is
	// our rules.
	Set    map[string]*chain.Chain
	Delete []string
}

// Transaction is the text of a Change. The kernel does all of it or nothing.
type Transaction struct {
	Text []byte
	// About names for each of the text's lines the chain that it changes; empty where it is about none.
	About []string
	// Changes counts the lines that change something.
	Changes int
}

// Transaction gives the text: new chains are there before anything leads to them, rules that stay are not
// touched, the kernel's own chains lead to ours when these are complete, and what goes is emptied before it is removed.
// The errors are of chains that can't be written, by name; the text is of no use if there are any.
func (c Change) Transaction() (Transaction, map[string]error) {
	w := writer{change: c, bad: map[string]error{}}
	w.line("", "*", string(c.Table))
	names := slices.Sorted(maps.Keys(c.Set))
	for _, name := range names {
		if w.anew(name) {
			w.declare(name)
		}
	}
	for _, name := range names {
		if !own(name) {
			w.chain(name, c.Set[name])
		}
	}
	gone := slices.Sorted(slices.Values(c.Delete))
	for _, name := range gone {
		w.unhook(name)
	}
	for _, name := range names {
		if own(name) {
			w.unhook(name)
			w.hook(name, c.Set[name])
		}
	}
	w.each("-F ", gone)
	w.each("-X ", gone)
	w.line("", "COMMIT")
	return Transaction{Text: w.text, About: w.about, Changes: w.changes}, w.bad
}

// Text gives chains of one family as iptables-restore --noflush takes them on a host that has none of them.
func Text(f api.Family, chains map[chain.Key]*chain.Chain) (string, error) {
	var b strings.Builder
	var errs []error
	for _, table := range Tables() {
		set := map[string]*chain.Chain{}
		for k, c := range chains {
			if k.Family == f && k.Table == table {
				set[k.Name] = c
			}
		}
		if len(set) == 0 {
			continue
		}
		t, bad := Change{Family: f, Table: table, Set: set}.Transaction()
		b.Write(t.Text)
		for _, name := range slices.Sorted(maps.Keys(bad)) {
			errs = append(errs, fmt.Errorf("chain %s: %w", name, bad[name]))
		}
	}
	return b.String(), errors.Join(errs...)
}

// Tables gives the tables, in the order in which a packet meets them.
func Tables() []chain.Table {
	return []chain.Table{chain.Raw, chain.Mangle, chain.NAT, chain.Filter}
}

// writer makes a Transaction.
type writer struct {
	change  Change
	text    []byte
	about   []string
	changes int
	bad     map[string]error
}

func (w *writer) line(about string, words ...string) {
	for _, word := range words {
		w.text = append(w.text, word...)
	}
	w.text = append(w.text, '\n')
	w.about = append(w.about, about)
	if about != "" {
		w.changes++
	}
}

// each gives a command for each of those chains of ours that exist.
func (w *writer) each(command string, names []string) {
	for _, name := range names {
		if have, exists := w.change.Have[name]; exists && !own(name) && len(have.Lines) == 0 {
			w.line(name, command, name)
		}
	}
}

func (w *writer) fail(about string, err error) {
	w.bad[about] = errors.Join(w.bad[about], err)
}

// anew says whether one of our chains is written from its beginning: it is not there, or has nothing that stays.
func (w *writer) anew(name string) bool {
	if own(name) {
		return false
	}
	have, exists := w.change.Have[name]
	return !exists || len(have.IDs) > 0 && len(common(have.IDs, w.change.Set[name].Rules)) == 0
}

// declare makes a chain, or empties it: so does --noflush with one that exists.
func (w *writer) declare(chainName string) {
	if err := name("chain", chainName, chain.MaxName); err != nil {
		w.fail(chainName, err)
		return
	}
	w.line(chainName, ":", chainName, " - [0:0]")
}

func (w *writer) chain(name string, c *chain.Chain) {
	if len(c.Last) > 0 {
		w.fail(name, errors.New("has rules that stand last, which only the kernel's own chains have"))
	}
	var have []string
	if !w.anew(name) {
		have = w.change.Have[name].IDs
	}
	for _, e := range edits(have, c.Rules) {
		number := fmt.Sprint(" ", e.at)
		switch e.command {
		case 'A':
			w.rule(name, "-A "+name, c.Rules[e.rule])
		case 'D':
			w.line(name, "-D ", name, number)
		default:
			w.rule(name, "-"+string(e.command)+" "+name+number, c.Rules[e.rule])
		}
	}
}

// unhook removes our rules from a chain that is not ours. It names them by all that they say: the numbers of others'
// rules change at any time.
func (w *writer) unhook(name string) {
	for _, line := range w.change.Have[name].Lines {
		if rule, ok := strings.CutPrefix(line, "-A "); ok {
			w.line(name, "-D ", rule)
		}
	}
}

func (w *writer) hook(name string, c *chain.Chain) {
	for i, r := range c.Rules {
		w.rule(name, fmt.Sprintf("-I %s %d", name, i+1), r)
	}
	for _, r := range c.Last {
		w.rule(name, "-A "+name, r)
	}
}

func (w *writer) rule(about, command string, r chain.Rule) {
	text, err := RuleIn(about, r, w.change.Family)
	if err != nil {
		w.fail(about, err)
		return
	}
	w.line(about, command, " ", text)
}

func own(name string) bool { return chain.Key{Name: name}.Own() }
