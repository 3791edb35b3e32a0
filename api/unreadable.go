// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"fmt"
	"strings"

	kjson "sigs.k8s.io/json"
)

// unreadable is the annotation of an object that was not understood whole. It is never stored.
const unreadable = "korat.internal/unreadable"

// Restricts says whether an object of the kind can forbid something: of such a one nothing may be left out because it
// is not understood.
func (k Kind) Restricts() bool {
	switch k {
	case KindNetworkPolicy, KindGlobalNetworkPolicy, KindKubernetesNetworkPolicy, KindClusterNetworkPolicy, KindProfile:
		return true
	default:
		return false
	}
}

// Restore reads an object as a datastore has it. Fields that it does not know, which a later version may have written,
// are left out. But of a kind that Restricts, what is not understood makes the object Unreadable, and even a value
// that is no object at all gives one, with no more than its key.
func Restore(key Key, value []byte) (Object, error) {
	obj := New(key.Kind)
	unknown, err := kjson.UnmarshalStrict(value, obj)
	if err == nil {
		// The key says which kind it is, whatever the value says.
		SetType(obj)
		if obj.Key() != key {
			err = fmt.Errorf("the value is %s", obj.Key())
		}
	}
	switch {
	case err != nil && !key.Kind.Restricts():
		return nil, err
	case err != nil:
		obj = New(key.Kind)
		obj.SetNamespace(key.Namespace)
		obj.SetName(key.Name)
		mark(obj, err.Error())
	case key.Kind.Restricts() && len(unknown) > 0:
		mark(obj, errors.Join(unknown...).Error())
	default:
		unmark(obj)
	}
	return obj, nil
}

// Unreadable says why an object that a datastore gave is not understood whole; empty if it is.
func Unreadable(obj Object) string { return obj.GetAnnotations()[unreadable] }

func mark(obj Object, reason string) {
	annotations := map[string]string{unreadable: strings.ReplaceAll(reason, "\n", "; ")}
	for k, v := range obj.GetAnnotations() {
		if k != unreadable {
			annotations[k] = v
		}
	}
	obj.SetAnnotations(annotations)
}

func unmark(obj Object) {
	annotations := obj.GetAnnotations()
	delete(annotations, unreadable)
	if len(annotations) == 0 {
		obj.SetAnnotations(nil)
	}
}

// Stored gives the object as a datastore is to hold it: a copy without its resourceVersion. It refuses an Unreadable
// one, which lacks something.
func Stored(obj Object) (Object, error) {
	if reason := Unreadable(obj); reason != "" {
		return nil, fmt.Errorf("%s is not understood whole (%s), and something of it would be lost: apply all of it, or delete it", obj.Key(), reason)
	}
	obj = obj.DeepCopyObject()
	obj.SetResourceVersion("")
	return obj, nil
}
