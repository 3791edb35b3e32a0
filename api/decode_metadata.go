// SPDX-License-Identifier: Apache-2.0

package api

import "strings"

// calicoFinalizers begin the names of those of Calico's controllers.
const calicoFinalizers = "projectcalico.org/"

// metadata leaves out what Kubernetes and its controllers keep in an object's metadata for themselves, and refuses what asks
// for something that nobody here does.
func (d *decoder) metadata(where string, obj Object) {
	// Owners are objects of the API server that this one comes from. Nothing goes with its owner here.
	obj.SetOwnerReferences(nil)
	obj.SetManagedFields(nil)
	if obj.GetName() != "" { // beside which it means nothing
		obj.SetGenerateName("")
	}
	d.finalizers(where, obj)
	for _, field := range []struct {
		name, remedy string
		set          bool
	}{
		{"generateName", "give it a name", obj.GetGenerateName() != ""},
		{"deletionTimestamp", "leave it out to have here what is being deleted where it comes from", obj.GetDeletionTimestamp() != nil},
		{"deletionGracePeriodSeconds", "leave it out", obj.GetDeletionGracePeriodSeconds() != nil},
	} {
		if field.set {
			d.fail(where, "metadata.%s: unknown or not supported by korat: %s", field.name, field.remedy)
		}
	}
}

// finalizers leaves out Calico's and korat's own of the kinds that korat itself keeps while they are in use, and refuses all
// others: whom they name does not watch this datastore, and nobody would wait for it.
func (d *decoder) finalizers(where string, obj Object) {
	kind := obj.Key().Kind
	kept := kind == KindTier || kind == KindIPPool
	for i, name := range obj.GetFinalizers() {
		if !kept || !strings.HasPrefix(name, calicoFinalizers) && name != PoolFinalizer {
			d.fail(where, "metadata.finalizers[%d]: %q is not supported by korat, where nobody acts on it: leave it out", i, name)
		}
	}
	obj.SetFinalizers(nil)
}
