// SPDX-License-Identifier: Apache-2.0

package architecture

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Sizes reports what in the Go files below dir is over its limit and has no exception, and exceptions
// that nothing needs. Generated files do not count, nor does what git or go would not look at.
func Sizes(dir string, l Limits, exceptions []Exception) ([]string, error) {
	over := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		name := d.Name()
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != dir && (strings.HasPrefix(name, ".") || name == "testdata" || name == "build"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go"):
			return nil
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return fileSizes(rel, src, l, over)
	})
	if err != nil {
		return nil, fmt.Errorf("measure the files below %s: %w", dir, err)
	}
	for _, e := range exceptions {
		if _, needed := over[e.What]; !needed {
			over[e.What] = "is within its limit: remove the exception"
			continue
		}
		delete(over, e.What)
	}
	var violations []string
	for _, what := range slices.Sorted(maps.Keys(over)) {
		violations = append(violations, what+" "+over[what])
	}
	return violations, nil
}

// fileSizes adds to over what is too long in one file, by name.
func fileSizes(name string, src []byte, l Limits, over map[string]string) error {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, src, parser.ParseComments)
	if err != nil {
		return fmt.Errorf("parse: %w", err)
	}
	if ast.IsGenerated(file) {
		return nil
	}
	test, limit := strings.HasSuffix(name, "_test.go"), l.FileLines
	if test {
		limit = l.TestFileLines
	}
	code := codeLines(src)
	exceeds(over, name, "lines of code", len(code), limit)
	if test { // a test's table may be as long as its cases
		return nil
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			what := name + ": " + functionName(n)
			start, end := fset.Position(n.Pos()).Line, fset.Position(n.End()).Line
			exceeds(over, what, "lines", linesBetween(code, start, end), l.FunctionLines)
			exceeds(over, what, "parameters", n.Type.Params.NumFields(), l.Parameters)
		case *ast.TypeSpec:
			if s, ok := n.Type.(*ast.StructType); ok {
				exceeds(over, name+": "+n.Name.Name, "fields", s.Fields.NumFields(), l.StructFields)
			}
		}
		return true
	})
	return nil
}

func exceeds(over map[string]string, what, unit string, have, limit int) {
	if have <= limit {
		return
	}
	text := fmt.Sprintf("has %d %s, the limit is %d", have, unit, limit)
	if over[what] != "" {
		text = over[what] + ", and " + text
	}
	over[what] = text
}

// functionName gives "Name", or "Type.Name" for a method.
func functionName(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return f.Name.Name
	}
	t := f.Recv.List[0].Type
	if star, ok := t.(*ast.StarExpr); ok {
		t = star.X
	}
	if index, ok := t.(*ast.IndexExpr); ok {
		t = index.X
	}
	if ident, ok := t.(*ast.Ident); ok {
		return ident.Name + "." + f.Name.Name
	}
	return f.Name.Name
}

// codeLines holds the numbers of the lines that hold code: neither blank nor comment only.
func codeLines(src []byte) map[int]bool {
	fset := token.NewFileSet()
	file := fset.AddFile("", fset.Base(), len(src))
	var s scanner.Scanner
	s.Init(file, src, nil, 0)
	lines := map[int]bool{}
	for {
		pos, tok, lit := s.Scan()
		if tok == token.EOF {
			return lines
		}
		if tok == token.SEMICOLON && lit == "\n" { // set by the scanner, not by anybody's hand
			continue
		}
		first := file.Line(pos)
		for i := range 1 + strings.Count(lit, "\n") { // a raw string may span lines
			lines[first+i] = true
		}
	}
}

// linesBetween counts the code lines of a function's body, without its first and last line.
func linesBetween(code map[int]bool, start, end int) int {
	n := 0
	for line := start + 1; line < end; line++ {
		if code[line] {
			n++
		}
	}
	return n
}
