// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"fmt"
	"maps"
	"strings"

	kjson "sigs.k8s.io/json"
)

// Annotations of an object that was not understood whole. They are never stored.
const (
	// unreadable says why.
	unreadable = "korat.internal/unreadable"
	// extent says how much of it there is: hollow or held. Without it there is all that was understood.
	extent = "korat.internal/extent"
	hollow = "hollow"
	held   = "held"
)

// Restricts says whether an object of the kind can forbid something: of such a one nothing may be left out because it
// is not understood.
func (k Kind) Restricts() bool {
	switch k {
	case KindNetworkPolicy, KindGlobalNetworkPolicy, KindKubernetesNetworkPolicy, KindClusterNetworkPolicy, KindProfile,
		KindTier, KindNetworkSet, KindGlobalNetworkSet:
		return true
	default:
		return false
	}
}

// guards says whether something may be more open without an object of the kind: one that nobody can read is not to be taken for
// none.
func (k Kind) guards() bool {
	switch k {
	case KindHostEndpoint, KindWorkloadEndpoint, KindEndpointSlice, KindFelixConfiguration:
		return true
	default:
		return k.Restricts()
	}
}

// lasts says whether what was read last of an object of the kind counts once nothing of it can be read any more. A policy
// denies then, and so do a tier and the rules of a profile.
func (k Kind) lasts() bool {
	switch k {
	case KindProfile, KindNetworkSet, KindGlobalNetworkSet, KindHostEndpoint, KindWorkloadEndpoint, KindEndpointSlice,
		KindFelixConfiguration:
		return true
	default:
		return false
	}
}

// Restore reads an object as a datastore has it. Fields that it does not know, which a later version may have written,
// are left out. But of a kind that Restricts, what is not understood makes the object Unreadable. Of such a kind, and of some
// others without which something may be more open, even a value that is no object at all gives one, with no more than
// its key: it is Hollow.
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
	case err != nil && !key.Kind.guards():
		return nil, err
	case err != nil:
		obj = New(key.Kind)
		obj.SetNamespace(key.Namespace)
		obj.SetName(key.Name)
		mark(obj, err.Error(), hollow)
	case key.Kind.Restricts() && len(unknown) > 0:
		mark(obj, errors.Join(unknown...).Error(), "")
	default:
		unmark(obj)
	}
	return obj, nil
}

// Unreadable says why an object that a datastore gave is not understood whole; empty if it is.
func Unreadable(obj Object) string { return obj.GetAnnotations()[unreadable] }

// Fault is an error that names an Unreadable object, the reason and the remedy; nil for any other.
func Fault(obj Object) error {
	reason, key := Unreadable(obj), obj.Key()
	if reason == "" {
		return nil
	}
	remedy := "is not understood whole (" + reason + "): apply it again, or delete it"
	switch {
	case Held(obj) && key.Kind == KindProfile:
		remedy += "; until then its labels are those that were read last, for as long as this agent runs"
	case Held(obj):
		remedy += "; until then what was read last counts, for as long as this agent runs"
	case Hollow(obj) && (key.Kind == KindHostEndpoint || key.Kind == KindFelixConfiguration):
		remedy += "; until then an agent that starts changes nothing of its host"
	}
	return &FieldError{Object: key, Field: "object", Value: "in the datastore", Remedy: remedy}
}

// Hollow says whether of an Unreadable object nothing is known but its key.
func Hollow(obj Object) bool { return Unreadable(obj) != "" && obj.GetAnnotations()[extent] == hollow }

// Held says whether of an Unreadable object all is there that was read last, when it was understood.
func Held(obj Object) bool { return Unreadable(obj) != "" && obj.GetAnnotations()[extent] == held }

// Hold gives what counts of an object that comes in the place of another: the object, or, where it is Hollow and of a kind
// that rules pick or that configures, what the other said when it was understood.
func Hold(last, obj Object) Object {
	if !Hollow(obj) || !obj.Key().Kind.lasts() || Unreadable(last) != "" && !Held(last) {
		return obj
	}
	kept := last.DeepCopyObject()
	kept.SetResourceVersion(obj.GetResourceVersion())
	mark(kept, Unreadable(obj), held)
	return kept
}

// mark says why the object is unreadable, and how much of it there is.
func mark(obj Object, reason, how string) {
	annotations := map[string]string{}
	maps.Copy(annotations, obj.GetAnnotations())
	annotations[unreadable] = strings.ReplaceAll(reason, "\n", "; ")
	delete(annotations, extent)
	if how != "" {
		annotations[extent] = how
	}
	obj.SetAnnotations(annotations)
}

func unmark(obj Object) {
	annotations := obj.GetAnnotations()
	delete(annotations, unreadable)
	delete(annotations, extent)
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
