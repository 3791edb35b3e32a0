// SPDX-License-Identifier: Apache-2.0

package api

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the apiVersion of every kind of this package but those of Kubernetes.
const GroupVersion = "projectcalico.org/v3"

// Kind names a resource kind, as in a manifest's kind field, except where KindInfo says otherwise.
type Kind string

// Key identifies one object in the datastore. Namespace is empty for cluster-scoped kinds.
//
// +kubebuilder:object:generate=false
type Key struct {
	Kind      Kind
	Namespace string
	Name      string
}

// String gives "Kind/name" or "Kind/namespace/name", the form used in errors and logs.
func (k Key) String() string {
	if k.Namespace == "" {
		return string(k.Kind) + "/" + k.Name
	}
	return string(k.Kind) + "/" + k.Namespace + "/" + k.Name
}

// Object is one resource. Objects handed out by a store or a Snapshot are shared and must not be
// changed; DeepCopy first.
//
// +kubebuilder:object:generate=false
type Object interface {
	metav1.Object
	// GetObjectKind is the manifest's apiVersion and kind.
	GetObjectKind() schema.ObjectKind
	// Key gives the object's kind, namespace and name.
	Key() Key
	// DeepCopyObject gives an independent copy of the same concrete type.
	DeepCopyObject() Object
}

// Time is a point in time as metadata has it.
type Time = metav1.Time
