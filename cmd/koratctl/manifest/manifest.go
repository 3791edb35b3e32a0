// SPDX-License-Identifier: Apache-2.0

// Package manifest reads the objects that a person gives with -f: files, folders and stdin, in YAML or
// JSON, with several documents to a file and lists in a document. It decodes strictly, and neither
// defaults nor validates: it fills in no more than namespaces.
package manifest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"korat/api"
)

// Item is one object and where it came from, for error messages.
type Item struct {
	Object api.Object
	Source string
}

// Located puts the source before each of the errors that err joins.
func (it Item) Located(err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return fmt.Errorf("%s: %w", it.Source, err)
	}
	var errs []error
	for _, e := range joined.Unwrap() {
		errs = append(errs, it.Located(e))
	}
	return errors.Join(errs...)
}

// Input is where manifests come from.
type Input struct {
	// Paths are files, folders (of which *.yaml, *.yml and *.json count) or "-" for Stdin.
	Paths []string
	// Recursive takes the folders' folders too.
	Recursive bool
	Stdin     io.Reader
	// Namespace is that of objects that need one and name none.
	Namespace string
}

// Read gives every object of the input in order. All errors are found, not only the first.
func Read(in Input) ([]Item, error) {
	var items []Item
	var errs []error
	for _, p := range in.Paths {
		files, err := in.files(p)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, f := range files {
			data, err := in.load(f)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			found, err := in.decode(f, data)
			items, errs = append(items, found...), append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return items, distinct(items)
}

// files gives the path itself, or the manifests in the folder that it is.
func (in Input) files(path string) ([]string, error) {
	if path == "-" {
		return []string{path}, nil
	}
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		return []string{path}, err
	}
	var files []string
	err := filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && p != path && !in.Recursive:
			return filepath.SkipDir
		case !d.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(p)):
			files = append(files, p)
		}
		return nil
	})
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("folder %s holds no *.yaml, *.yml or *.json (its folders count only with --recursive)", path)
	}
	return files, err
}

func (in Input) load(path string) ([]byte, error) {
	if path == "-" {
		data, err := io.ReadAll(in.Stdin)
		if err != nil {
			return nil, fmt.Errorf("read stdin: %w", err)
		}
		return data, nil
	}
	return os.ReadFile(path)
}

// decode gives the objects of one file.
func (in Input) decode(path string, data []byte) ([]Item, error) {
	if path == "-" {
		path = "stdin"
	}
	from := Item{Source: path}
	objs, err := api.Decode(data)
	switch {
	case err != nil:
		return nil, from.Located(err)
	case len(objs) == 0:
		return nil, fmt.Errorf("%s: holds no object", path)
	}
	var items []Item
	for _, obj := range objs {
		if info, ok := obj.Key().Kind.Info(); ok && info.Namespaced && obj.GetNamespace() == "" {
			obj.SetNamespace(in.Namespace)
		}
		items = append(items, Item{obj, path})
	}
	return items, nil
}

// distinct refuses two manifests of one object, of which only one could win.
func distinct(items []Item) error {
	sources := map[api.Key]string{}
	var errs []error
	for _, it := range items {
		key := it.Object.Key()
		if first, twice := sources[key]; twice {
			errs = append(errs, fmt.Errorf("%s: %s is given twice, first in %s: remove one", it.Source, key, first))
		}
		sources[key] = it.Source
	}
	return errors.Join(errs...)
}
