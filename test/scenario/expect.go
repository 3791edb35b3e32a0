// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// expected reads the lines of a want section.
func expected(text string) (Table, error) {
	t := Table{}
	for _, f := range Flows() {
		t[f] = true
	}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		e, err := readLine(line)
		if err == nil && e.on(t) == 0 {
			err = fmt.Errorf("it changes nothing")
		}
		if err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
	}
	return t, nil
}

// expectation is a line of a want section.
type expectation struct {
	allow    bool
	from, to []Place
	services []Service
}

// on does it, and says how many flows it is news for.
func (e expectation) on(t Table) int {
	changed := 0
	for _, from := range e.from {
		for _, to := range e.to {
			for _, s := range e.services {
				f := Flow{from, to, s}
				if !f.fixed() && t[f] != e.allow {
					t[f] = e.allow
					changed++
				}
			}
		}
	}
	return changed
}

func readLine(line string) (expectation, error) {
	verb, rest, _ := strings.Cut(line, " ")
	if verb != "allow" && verb != "deny" {
		return expectation{}, fmt.Errorf("want allow or deny")
	}
	from, rest, ok := strings.Cut(rest, "->")
	if !ok {
		return expectation{}, fmt.Errorf("want ->")
	}
	// Commas go on with the places; the first word without one is the last of them.
	words := strings.Fields(rest)
	places := 1 + slices.IndexFunc(words, func(word string) bool { return !strings.HasSuffix(word, ",") })
	if places == 0 {
		return expectation{}, fmt.Errorf("want places after ->")
	}
	to, services := strings.Join(words[:places], " "), words[places:]
	e := expectation{allow: verb == "allow"}
	var err error
	if e.from, err = readPlaces(from); err != nil {
		return e, err
	}
	if e.to, err = readPlaces(to); err != nil {
		return e, err
	}
	e.services, err = readServices(services)
	return e, err
}

func readPlaces(list string) ([]Place, error) {
	var all []Place
	for word := range strings.SplitSeq(list, ",") {
		word = strings.TrimSpace(word)
		found := slices.DeleteFunc(Places(), func(p Place) bool { return !p.is(word) })
		if len(found) == 0 {
			return nil, fmt.Errorf("%q is no place", word)
		}
		all = append(all, found...)
	}
	return all, nil
}

// is says whether a pattern means the Place.
func (p Place) is(pattern string) bool {
	_, host := p.Host()
	namespace, name, _ := strings.Cut(string(p), "/")
	switch {
	case pattern == "*":
		return true
	case pattern == "pods":
		return !host
	case strings.HasPrefix(pattern, "*/"):
		return !host && pattern == "*/"+name
	}
	return pattern == string(p) || pattern == namespace+"/*"
}

func readServices(words []string) ([]Service, error) {
	if len(words) == 0 {
		return Services(), nil
	}
	var all []Service
	for _, word := range words {
		found := slices.DeleteFunc(Services(), func(s Service) bool {
			return word != s.String() && word != s.Protocol && word != strconv.Itoa(int(s.Port))
		})
		if len(found) == 0 {
			return nil, fmt.Errorf("%q is no port", word)
		}
		all = append(all, found...)
	}
	return all, nil
}
