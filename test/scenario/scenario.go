// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/txtar"

	"korat/api"
)

// Scenario is a file of testdata.
type Scenario struct {
	Name  string
	Steps []Step
}

// Addressed says whether it is another one for each family, as its manifests have addresses.
func (s Scenario) Addressed() bool {
	return slices.ContainsFunc(s.Steps, func(step Step) bool {
		return slices.ContainsFunc(step.Actions, func(a Action) bool { return strings.Contains(a.Text, "$(") })
	})
}

// Step is something that is done, and what must hold then.
type Step struct {
	Actions []Action
	Want    Table
}

// Verb says what an Action does.
type Verb string

// The Verbs are the names of sections.
const (
	Apply  Verb = "apply"
	Delete Verb = "delete"
	Label  Verb = "label"
)

// Action is a section of a file. Text has manifests for Apply, and lines for the others.
type Action struct {
	Verb Verb
	Text string
}

// Of gives the Action as it is for a family's addresses.
func (a Action) Of(f api.Family) (Action, error) {
	text, err := replaced(a.Text, f)
	return Action{a.Verb, text}, err
}

// Lines splits the Text.
func (a Action) Lines() []string {
	var all []string
	for line := range strings.Lines(a.Text) {
		if line = strings.TrimSpace(line); line != "" {
			all = append(all, line)
		}
	}
	return all
}

//go:embed testdata/*.txtar
var files embed.FS

// All reads the scenarios, in the order of their names.
func All() ([]Scenario, error) {
	names, err := fs.Glob(files, "testdata/*.txtar")
	if err != nil {
		return nil, fmt.Errorf("list scenarios: %w", err)
	}
	var all []Scenario
	for _, name := range names {
		data, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("read scenario: %w", err)
		}
		s, err := read(data)
		if err != nil {
			return nil, fmt.Errorf("read scenario %s: %w", name, err)
		}
		s.Name = strings.TrimSuffix(path.Base(name), ".txtar")
		all = append(all, s)
	}
	return all, nil
}

func read(data []byte) (Scenario, error) {
	var s Scenario
	archive := txtar.Parse(data)
	if len(archive.Comment) == 0 {
		return s, fmt.Errorf("it doesn't begin with what it is about")
	}
	var step Step
	for i, section := range archive.Files {
		text := string(section.Data)
		switch section.Name {
		case string(Apply), string(Delete), string(Label):
			step.Actions = append(step.Actions, Action{Verb(section.Name), text})
		case "want":
			want, err := expected(text)
			if err != nil {
				return s, fmt.Errorf("section %d: %w", i, err)
			}
			step.Want = want
			s.Steps = append(s.Steps, step)
			step = Step{}
		default:
			return s, fmt.Errorf("section %d: %q: want apply, delete, label or want", i, section.Name)
		}
	}
	if len(step.Actions) > 0 || len(s.Steps) == 0 {
		return s, fmt.Errorf("it doesn't end with a want section")
	}
	return s, nil
}
