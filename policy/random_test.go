// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"korat/api"
	"korat/policy"
)

// TestRandomFaults changes one thing in valid objects. Whatever comes of it must be sound, and a fault in what
// picks the endpoints must not spare any that were picked before.
func TestRandomFaults(t *testing.T) {
	var objs []api.Object
	for _, data := range inputs(t) {
		all, err := api.Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		for _, obj := range all {
			api.Default(obj)
			if api.Validate(obj) == nil {
				objs = append(objs, obj)
			}
		}
	}
	faults, subjects := 0, 0
	for seed := range uint64(20000) {
		m := mutation{Rand: rand.New(rand.NewPCG(seed, 0))}
		before := objs[m.IntN(len(objs))]
		obj := m.object(t, before)
		if obj == nil {
			continue
		}
		if err := check(obj); err != nil {
			t.Fatalf("seed %d: %s changed to %v: %v\n%s", seed, m.path, m.value, err, dump(obj))
		}
		spared, faulty := spares(before, obj)
		if spared != "" {
			t.Fatalf("seed %d: %s changed to %v: spares %s\n%s\n%s", seed, m.path, m.value, spared, dump(before), dump(obj))
		}
		if faulty {
			subjects++
		}
		if strings.Contains(dump(obj), "\nerror: ") {
			faults++
		}
	}
	if faults < 500 || subjects < 50 {
		t.Errorf("only %d faults, %d of them in what picks endpoints", faults, subjects)
	}
}

// spares gives labels that the policy picked before and does not pick now, though what picks them has a fault.
func spares(before, obj api.Object) (labels string, faulty bool) {
	p, err := policy.Of(obj)
	old, _ := policy.Of(before)
	if p == nil || old == nil || !faultySubject(err) {
		return "", false
	}
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 1))
		all := map[string]string{}
		for _, key := range []string{
			"app", "role", "a", "b", "there", "in", "out", "pcns.env", "pcns.a", "pcsa.role", "pcsa.admin", "host", "rack",
			policy.LabelNamespace, policy.LabelOrchestrator, policy.LabelServiceAccount,
		} {
			if r.IntN(3) > 0 {
				all[key] = []string{"web", "x", "v", "w", "one", "two", "shop", "default", "prod", "b", "db"}[r.IntN(11)]
			}
		}
		if r.IntN(2) == 0 {
			all[policy.LabelNamespace] = obj.GetNamespace()
		}
		if old.Selector.Matches(all) && !p.Selector.Matches(all) {
			return fmt.Sprintf("%q", all), true
		}
	}
	return "", true
}

// faultySubject says whether all errors are of fields that pick the endpoints.
func faultySubject(err error) bool {
	joined, ok := errors.AsType[interface {
		error
		Unwrap() []error
	}](err)
	if !ok {
		return false
	}
	for _, err := range joined.Unwrap() {
		field, ok := errors.AsType[*api.FieldError](err)
		if !ok || !slices.ContainsFunc([]string{
			"spec.selector", "spec.serviceAccountSelector", "spec.namespaceSelector", "spec.podSelector", "spec.subject",
		}, func(prefix string) bool { return strings.HasPrefix(field.Field, prefix) }) {
			return false
		}
	}
	return true
}

// A mutation changes one value somewhere in a spec.
type mutation struct {
	*rand.Rand
	path  string
	value any
}

// object gives the changed object, or nil if it cannot be read.
func (m *mutation) object(t *testing.T, obj api.Object) api.Object {
	data, err := json.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := json.Unmarshal(data, &tree); err != nil {
		t.Fatal(err)
	}
	tree["spec"] = m.change(tree["spec"])
	if data, err = json.Marshal(tree); err != nil {
		t.Fatal(err)
	}
	objs, err := api.Decode(data)
	if err != nil || len(objs) != 1 {
		return nil
	}
	api.Default(objs[0])
	return objs[0]
}

func (m *mutation) change(value any) any {
	switch v := value.(type) {
	case map[string]any:
		if len(v) == 0 || m.IntN(8) == 0 {
			break
		}
		key := slices.Sorted(maps.Keys(v))[m.IntN(len(v))]
		m.path += "." + key
		if m.IntN(8) == 0 {
			m.value = "nothing"
			delete(v, key)
		} else {
			v[key] = m.change(v[key])
		}
		return v
	case []any:
		if len(v) == 0 || m.IntN(8) == 0 {
			break
		}
		i := m.IntN(len(v))
		m.path += fmt.Sprintf("[%d]", i)
		v[i] = m.change(v[i])
		return v
	}
	m.value = m.any(value)
	return m.value
}

func (m *mutation) any(was any) any {
	switch was.(type) {
	case string:
		return []any{
			"", "all()", "global()", "!global()", "a == ", "a == 'b'", "'\"", "a b", "has(", "x\n", "Allow", "Pass", "Egress",
			"10.0.0.0/8", "::/0", "10.0.0.1", "fe80::1%1", "::ffff:1.2.3.4", "TCP", "ICMP", "255", "Exists", "NotIn", "Set", "Ignore",
		}[m.IntN(25)]
	case float64:
		return []any{-1, 0, 1, 4, 6, 80, 254, 255, 256, 65535, 65536, 1e9}[m.IntN(12)]
	case bool:
		return m.IntN(2) == 0
	case map[string]any:
		return map[string]any{}
	default:
		return []any{}
	}
}
