// SPDX-License-Identifier: Apache-2.0

package architecture

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Package is a node of the import graph.
type Package struct {
	// Path is the full import path.
	Path string
	// Imports of the non-test files, and Deps, their transitive closure; full paths.
	Imports, Deps []string
}

// Imports reports what in the graph breaks a rule, in order of package.
func Imports(packages []Package, directions []Direction, bans []Ban) []string {
	var violations []string
	for _, p := range packages {
		own, ok := within(p.Path)
		if !ok {
			continue
		}
		if slices.Contains(vagueNames, path.Base(own)) {
			violations = append(violations, fmt.Sprintf("%s: the name says nothing; name what it owns", own))
		}
		violations = append(violations, direction(own, p.Imports, directions)...)
		for _, b := range bans {
			violations = append(violations, banned(own, p, b)...)
		}
	}
	return violations
}

func direction(own string, imports []string, directions []Direction) []string {
	i := slices.IndexFunc(directions, func(d Direction) bool { return matches(d.From, own) })
	if i < 0 {
		return []string{own + ": no direction is laid down for it; add one in test/architecture/rules.go"}
	}
	var violations []string
	for _, imp := range imports {
		if to, ok := within(imp); ok && !matchesAny(directions[i].May, to) {
			violations = append(violations, fmt.Sprintf("%s imports %s: against the direction of imports", own, to))
		}
	}
	return violations
}

func banned(own string, p Package, b Ban) []string {
	if !matchesAny(b.In, own) || matchesAny(b.But, own) {
		return nil
	}
	from, verb := p.Imports, "imports"
	if b.Deep {
		from = p.Deps
	}
	var violations []string
	for _, imp := range from {
		if !below(b.Of, imp) || below(b.Except, imp) {
			continue
		}
		if !slices.Contains(p.Imports, imp) {
			verb = "imports indirectly"
		}
		violations = append(violations, fmt.Sprintf("%s %s %s: %s", own, verb, imp, b.Why))
	}
	return violations
}

// within gives the path inside the module.
func within(importPath string) (string, bool) {
	return strings.CutPrefix(importPath, Module+"/")
}

func matchesAny(patterns []string, own string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, own) })
}

func matches(pattern, own string) bool {
	stem, deep := strings.CutSuffix(pattern, "...")
	if !deep {
		return pattern == own
	}
	stem = strings.TrimSuffix(stem, "/")
	return stem == "" || below([]string{stem}, own)
}

// below says whether the path is one of roots or below it.
func below(roots []string, p string) bool {
	return slices.ContainsFunc(roots, func(r string) bool { return p == r || strings.HasPrefix(p, r+"/") })
}
