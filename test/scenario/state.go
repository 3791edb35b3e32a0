// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"korat/api"
)

// State is what Actions have made of a cluster's policies and labels.
type State struct {
	// policies are by their names, "x/deny".
	policies map[string]api.Object
	// labels are those of pods and of namespaces, by "pod x/a" and "namespace x".
	labels map[string]map[string]string
}

// NewState gives what each scenario begins with: no policies, and each object's first labels.
func NewState() *State {
	s := &State{policies: map[string]api.Object{}, labels: map[string]map[string]string{}}
	for _, p := range Pods() {
		s.labels["pod "+string(p.Place())] = p.Labels()
	}
	for _, namespace := range Namespaces() {
		s.labels["namespace "+namespace] = map[string]string{"ns": namespace}
	}
	return s
}

// Do does an Action for one family. An error says what is wrong with its text.
func (s *State) Do(a Action) error {
	switch a.Verb {
	case Apply:
		return s.apply(a.Text)
	case Delete:
		for _, name := range a.Lines() {
			if s.policies[name] == nil {
				return fmt.Errorf("delete %s: there is no such policy", name)
			}
			delete(s.policies, name)
		}
	case Label:
		for _, line := range a.Lines() {
			if err := s.label(line); err != nil {
				return fmt.Errorf("label %s: %w", line, err)
			}
		}
	}
	return nil
}

func (s *State) apply(text string) error {
	objs, err := api.Decode([]byte(text))
	if err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	for _, obj := range objs {
		api.Default(obj)
		if err := api.Validate(obj); err != nil {
			return fmt.Errorf("apply: %w", err)
		}
		if _, ok := obj.(*api.KubernetesNetworkPolicy); !ok {
			return fmt.Errorf("apply: %s is no NetworkPolicy of Kubernetes", obj.Key())
		}
		s.policies[obj.GetNamespace()+"/"+obj.GetName()] = obj
	}
	return nil
}

func (s *State) label(line string) error {
	words := strings.Fields(line)
	if len(words) < 3 {
		return fmt.Errorf("want the kind, the name, and labels")
	}
	have, ok := s.labels[words[0]+" "+words[1]]
	if !ok {
		return fmt.Errorf("there is nothing of that name")
	}
	for _, word := range words[2:] {
		if key, value, ok := strings.Cut(word, "="); ok {
			have[key] = value
			continue
		}
		key, ok := strings.CutSuffix(word, "-")
		if _, exists := have[key]; !ok || !exists {
			return fmt.Errorf("%s: want KEY=VALUE, or KEY- of a label that there is", word)
		}
		delete(have, key)
	}
	return nil
}

// Undo gives Actions that lead back to NewState.
func (s *State) Undo() []Action {
	var all []Action
	if len(s.policies) > 0 {
		all = append(all, Action{Delete, strings.Join(slices.Sorted(maps.Keys(s.policies)), "\n")})
	}
	var lines []string
	first := NewState()
	for _, object := range slices.Sorted(maps.Keys(s.labels)) {
		line := object
		for key, value := range first.labels[object] {
			if s.labels[object][key] != value {
				line += " " + key + "=" + value
			}
		}
		for key := range s.labels[object] {
			if _, keep := first.labels[object][key]; !keep {
				line += " " + key + "-"
			}
		}
		if line != object {
			lines = append(lines, line)
		}
	}
	if len(lines) > 0 {
		all = append(all, Action{Label, strings.Join(lines, "\n")})
	}
	return all
}
