// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"korat/api"
)

// Stamp gives a copy of the object with a new UID and creation time, as Create stores it. It is for
// implementations.
func Stamp(obj api.Object, now time.Time) api.Object {
	obj = obj.DeepCopyObject()
	obj.SetUID(types.UID(uuid.NewString()))
	// JSON keeps whole seconds; what Create returns must equal what Get returns.
	obj.SetCreationTimestamp(metav1.NewTime(now.UTC().Truncate(time.Second)))
	obj.SetResourceVersion("")
	return obj
}

// Replace gives a copy of obj with the identity (UID, creation time) of the object that it
// replaces, as Update stores it. It is for implementations.
func Replace(stored, obj api.Object) api.Object {
	obj = obj.DeepCopyObject()
	obj.SetUID(stored.GetUID())
	obj.SetCreationTimestamp(stored.GetCreationTimestamp())
	obj.SetResourceVersion("")
	return obj
}

// CheckKey says whether an object can be stored under the key: its kind is supported, its name is
// set, and it has a namespace just where its kind has one. It is for implementations.
func CheckKey(key api.Key) error {
	info, ok := key.Kind.Info()
	switch {
	case !ok:
		return fmt.Errorf("%s: kind %q is not supported by korat", key, key.Kind)
	case key.Name == "" || strings.Contains(key.Name, "/"):
		return fmt.Errorf("%s: name %q must be set and hold no slash", key, key.Name)
	case info.Namespaced && (key.Namespace == "" || strings.Contains(key.Namespace, "/")):
		return fmt.Errorf("%s: namespace %q must be set and hold no slash", key, key.Namespace)
	case !info.Namespaced && key.Namespace != "":
		return fmt.Errorf("%s: %s has no namespace, but %q is given", key, key.Kind, key.Namespace)
	}
	return nil
}
