// SPDX-License-Identifier: Apache-2.0

package change

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"

	"korat/api"
	"korat/api/store"
	"korat/policy"
)

// Labels is a change of labels.
type Labels struct {
	Set    map[string]string
	Remove []string
	// Overwrite allows other values for labels that there are.
	Overwrite bool
}

// Label changes an object's labels and leaves everything else as it is, whoever changes that meanwhile.
func Label(ctx context.Context, st store.Store, key api.Key, l Labels) (Outcome, error) {
	switch key.Kind {
	case api.KindBlockAffinity, api.KindIPAMBlock:
		return Outcome{}, fmt.Errorf("%s: the agents keep this kind, and nothing picks it by labels", key)
	default:
	}
	return relabel(ctx, st, key, func(obj api.Object) (api.Object, error) {
		if obj == nil {
			return nil, fmt.Errorf("%s: %w", key, store.ErrNotFound)
		}
		labels, err := l.edited(key, "metadata.labels", obj.GetLabels())
		obj.SetLabels(labels)
		return obj, err
	})
}

// LabelPod changes the labels of all interfaces of a pod.
func LabelPod(ctx context.Context, st store.Store, namespace, pod string, l Labels) ([]Outcome, error) {
	objs, _, err := st.List(ctx, api.KindWorkloadEndpoint)
	if err != nil {
		return nil, err
	}
	var outcomes []Outcome
	var errs []error
	for _, obj := range objs {
		if w, ok := obj.(*api.WorkloadEndpoint); !ok || w.Namespace != namespace || w.Spec.Pod != pod {
			continue
		}
		o, err := Label(ctx, st, obj.Key(), l)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		outcomes = append(outcomes, o)
	}
	if len(outcomes)+len(errs) == 0 {
		return nil, fmt.Errorf("pod %s/%s: %w: no WorkloadEndpoint is of it", namespace, pod, store.ErrNotFound)
	}
	return outcomes, errors.Join(errs...)
}

// namespaceLabels begins the keys of a namespace's labels in its profile.
const namespaceLabels = "pcns."

// LabelNamespace changes the labels of a namespace. They are kept in its profile, which is made if there is none: all
// that is in the namespace inherits them.
func LabelNamespace(ctx context.Context, st store.Store, namespace string, l Labels) (Outcome, error) {
	key := api.Key{Kind: api.KindProfile, Name: policy.NamespaceProfile(namespace)}
	return relabel(ctx, st, key, func(obj api.Object) (api.Object, error) {
		prof, ok := obj.(*api.Profile)
		switch {
		case obj == nil && len(l.Set) == 0:
			return nil, nil // there is nothing to remove
		case obj == nil:
			prof = impliedProfile(key.Name)
		case !ok:
			return nil, fmt.Errorf("%s is stored as a %T", key, obj)
		}
		labels, err := l.prefixed(namespaceLabels).edited(key, "spec.labelsToApply", prof.Spec.LabelsToApply)
		prof.Spec.LabelsToApply = labels
		return prof, err
	})
}

// impliedProfile gives the object that says of a namespace what holds without one: everything is allowed.
func impliedProfile(name string) *api.Profile {
	prof := &api.Profile{}
	prof.Name = name
	prof.Spec.Ingress, prof.Spec.Egress = []api.Rule{{Action: api.Allow}}, []api.Rule{{Action: api.Allow}}
	api.Default(prof)
	return prof
}

// relabel does the change on the object as it is, which is nil if there is none, until nobody else was faster. A change that
// gives nil leaves it at none.
func relabel(ctx context.Context, st store.Store, key api.Key, do func(api.Object) (api.Object, error)) (Outcome, error) {
	for range tries {
		done, err := relabelOnce(ctx, st, key, do)
		if !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrExists) {
			return Outcome{key, done}, err
		}
	}
	return Outcome{}, fmt.Errorf("%s: was changed by others %d times in a row: try again", key, tries)
}

func relabelOnce(ctx context.Context, st store.Store, key api.Key, do func(api.Object) (api.Object, error)) (string, error) {
	have, err := st.Get(ctx, key)
	exists := err == nil
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return "", err
	}
	var next api.Object
	if exists {
		next = have.DeepCopyObject()
	}
	if next, err = do(next); err != nil {
		return "", err
	}
	if next == nil {
		return "unchanged", nil
	}
	if err := api.Validate(next); err != nil {
		return "", err
	}
	switch {
	case !exists:
		_, err = st.Create(ctx, next)
	case equality.Semantic.DeepEqual(have, next):
		return "unchanged", nil
	default:
		_, err = st.Update(ctx, next)
	}
	return "labelled", err
}

// prefixed gives the change with the prefix before each key.
func (l Labels) prefixed(prefix string) Labels {
	next := Labels{Set: map[string]string{}, Overwrite: l.Overwrite}
	for key, value := range l.Set {
		next.Set[prefix+key] = value
	}
	for _, key := range l.Remove {
		next.Remove = append(next.Remove, prefix+key)
	}
	return next
}

// edited gives the labels with the change.
func (l Labels) edited(object api.Key, field string, have map[string]string) (map[string]string, error) {
	next := maps.Clone(have)
	if next == nil {
		next = map[string]string{}
	}
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(l.Set)) {
		if old, exists := have[key]; exists && old != l.Set[key] && !l.Overwrite {
			errs = append(errs, &api.FieldError{
				Object: object, Field: field + "[" + key + "]", Value: old, Remedy: "has a value already: give --overwrite to change it",
			})
		}
		next[key] = l.Set[key]
	}
	for _, key := range l.Remove {
		delete(next, key)
	}
	return next, errors.Join(errs...)
}
