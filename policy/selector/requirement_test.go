// SPDX-License-Identifier: Apache-2.0

package selector_test

import (
	"strings"
	"testing"

	"korat/policy/selector"
)

// requirementText writes "a=x|y b !c", or "never".
func requirementText(r selector.Requirements) string {
	if r.Never {
		return "never"
	}
	var all []string
	for _, label := range r.Labels {
		text := label.Key
		if label.Absent {
			text = "!" + text
		}
		if len(label.Values) > 0 {
			text += "=" + strings.Join(label.Values, "|")
		}
		all = append(all, text)
	}
	return strings.Join(all, " ")
}

func TestRequirements(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", ""},
		{"all()", ""},
		{"!all()", "never"},
		{"global()", "!projectcalico.org/namespace"},
		{"!global()", "projectcalico.org/namespace"},
		{"has(a)", "a"},
		{"!has(a)", "!a"},
		{"a == 'x'", "a=x"},
		{"a != 'x'", ""},
		{"!a != 'x'", "a=x"},
		{"a in {'y', 'x'}", "a=x|y"},
		{"a not in {'x', 'y'}", ""},
		{"a in {}", "never"},
		{"a contains 'x'", "a"},
		{"a starts with 'x'", "a"},
		{"a ends with 'x'", "a"},
		{"!a ends with 'x'", ""},

		{"b == 'y' && a == 'x' && c != 'z' && !has(d) && e contains 'e'", "a=x b=y !d e"},
		{"a in {'x','y','z'} && a in {'w','y','z'}", "a=y|z"},
		{"a in {'x','y'} && has(a)", "a=x|y"},
		{"has(a) && a in {'x','y'}", "a=x|y"},
		{"a == 'x' && a == 'y'", "never"},
		{"a == 'x' && !has(a)", "never"},
		{"!has(a) && a contains 'x'", "never"},
		{"has(a) && !all()", "never"},
		{"has(projectcalico.org/namespace) && global()", "never"},

		{"a == 'x' || a == 'y'", "a=x|y"},
		{"a == 'y' || a == 'x' || a == 'y'", "a=x|y"},
		{"a == 'x' || has(a)", "a"},
		{"has(a) || a == 'x'", "a"},
		{"a == 'x' || b == 'x'", ""},
		{"a == 'x' || !has(a)", ""},
		{"a == 'x' || all()", ""},
		{"a == 'x' || a != 'x'", ""},
		{"a == 'x' || !all()", "a=x"},
		{"!all() || a in {}", "never"},
		{"!has(a) || !has(a) && has(b)", "!a"},
		{"a == 'x' && b == 'x' || b == 'y' && a == 'x'", "a=x b=x|y"},
		{"a == 'x' && b == 'x' && b == 'y' || c == 'z'", "c=z"},
		{"(a == 'x' || a == 'y') && (a == 'y' || a == 'z')", "a=y"},

		{"!(a == 'x' && has(b))", ""},
		{"!(a != 'x' || has(b))", "a=x !b"},
		{"!(a != 'x' && a != 'y')", "a=x|y"},
		{"!(has(a) || !(has(b) && !has(c)))", "!a b !c"},
	}
	for _, tt := range tests {
		if have := requirementText(parse(t, tt.text).Requirements()); have != tt.want {
			t.Errorf("%s requires %q, want %q", tt.text, have, tt.want)
		}
	}
}

func TestRequirementsAreTheCallersOwn(t *testing.T) {
	s := parse(t, "a in {'x', 'y'} && b == 'z'")
	for _, label := range s.Requirements().Labels {
		label.Values[0] = "changed"
	}
	if have := requirementText(s.Requirements()); have != "a=x|y b=z" || !s.Matches(labelsOf("a=x b=z")) {
		t.Errorf("a caller changed the selector: %s", have)
	}
}

// allow says whether labels meet all requirements.
func allow(r selector.Requirements, labels map[string]string) bool {
	if r.Never {
		return false
	}
	for _, label := range r.Labels {
		value, ok := labels[label.Key]
		if label.Present && !ok || label.Absent && ok {
			return false
		}
		if len(label.Values) > 0 && !strings.Contains("|"+strings.Join(label.Values, "|")+"|", "|"+value+"|") {
			return false
		}
	}
	return true
}
