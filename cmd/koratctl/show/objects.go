// SPDX-License-Identifier: Apache-2.0

// Package show prints what koratctl found: objects, the use of addresses and a node's status, as tables
// for people and as YAML, JSON and names for programs.
package show

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"sigs.k8s.io/yaml"

	"korat/api"
)

// Format is the value of -o.
type Format string

// The formats. Table is the default.
const (
	Table Format = ""
	Wide  Format = "wide"
	YAML  Format = "yaml"
	JSON  Format = "json"
	Name  Format = "name"
)

// ParseFormat checks the value of -o against those that the command has.
func ParseFormat(s string, allowed ...Format) (Format, error) {
	names := make([]string, 0, len(allowed))
	for _, f := range allowed {
		if s == string(f) {
			return f, nil
		}
		if f != Table {
			names = append(names, string(f))
		}
	}
	return "", fmt.Errorf("output format %q: use one of %s", s, strings.Join(names, ", "))
}

// Objects prints the objects. As YAML and JSON, a single named one is printed as itself, and others as
// a list: <Kind>List of the kind's apiVersion as calicoctl does, or, of several kinds, List of v1.
func Objects(w io.Writer, f Format, objs []api.Object, single bool) error {
	switch f {
	case YAML, JSON:
		if single && len(objs) == 1 {
			return Value(w, f, objs[0])
		}
		return Value(w, f, list(objs))
	case Name:
		for _, o := range objs {
			if _, err := fmt.Fprintln(w, o.Key()); err != nil {
				return err
			}
		}
		return nil
	default:
		return tables(w, f == Wide, objs)
	}
}

// Value prints any value as YAML or JSON.
func Value(w io.Writer, f Format, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if f == YAML {
		data, err = yaml.JSONToYAML(data)
		if err != nil {
			return err
		}
	} else {
		data = append(data, '\n')
	}
	_, err = w.Write(data)
	return err
}

// objectList is a list as Kubernetes writes one.
type objectList struct {
	APIVersion string       `json:"apiVersion"`
	Kind       string       `json:"kind"`
	Items      []api.Object `json:"items"`
}

func list(objs []api.Object) objectList {
	l := objectList{"v1", "List", objs}
	if objs == nil {
		l.Items = []api.Object{}
	}
	for i, o := range objs {
		kind := o.Key().Kind
		if kind != objs[0].Key().Kind {
			return objectList{"v1", "List", objs}
		}
		if info, ok := kind.Info(); ok && i == 0 {
			l.APIVersion, l.Kind = info.APIVersion, info.Manifest+"List"
		}
	}
	return l
}

// tables prints one table for each run of objects of a kind.
func tables(w io.Writer, wide bool, objs []api.Object) error {
	for len(objs) > 0 {
		kind := objs[0].Key().Kind
		n := 0
		for n < len(objs) && objs[n].Key().Kind == kind {
			n++
		}
		if err := table(w, columns(kind, wide), objs[:n]); err != nil {
			return err
		}
		if objs = objs[n:]; len(objs) > 0 {
			fmt.Fprintln(w)
		}
	}
	return nil
}

func table(w io.Writer, cols []column, objs []api.Object) error {
	rows := make([][]string, 0, len(objs)+1)
	rows = append(rows, nil)
	for _, c := range cols {
		rows[0] = append(rows[0], c.title)
	}
	for _, o := range objs {
		row := make([]string, 0, len(cols))
		for _, c := range cols {
			row = append(row, c.value(o))
		}
		rows = append(rows, row)
	}
	return grid(w, rows)
}

// grid prints rows with their columns aligned; an empty cell shows as "-".
func grid(w io.Writer, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			if cell == "" {
				cell = "-"
			}
			if i < len(row)-1 {
				cell += "\t"
			}
			fmt.Fprint(tw, cell)
		}
		fmt.Fprintln(tw)
	}
	return tw.Flush()
}
