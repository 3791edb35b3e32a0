// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"maps"
	"strings"

	"korat/api"
	"korat/policy"
)

// The profile of a namespace has this prefix before its name; its labels are those of the namespace, each with
// namespaceLabel before its key.
const (
	namespaceProfile = "kns."
	namespaceLabel   = "pcns."
)

// profile gives the named one, nil if there is none. That of a namespace always exists; without an object it allows
// everything.
func (w *World) profile(name string) *policy.Profile {
	prof := w.profiles[name]
	if prof == nil && strings.HasPrefix(name, namespaceProfile) {
		all := []policy.Rule{{Action: api.Allow}}
		prof = withNames(&policy.Profile{Name: name, Ingress: all, Egress: all})
		w.profiles[name] = prof
	}
	return prof
}

// withNames gives a namespace's profile two labels with its name, which its own win over.
func withNames(prof *policy.Profile) *policy.Profile {
	namespace, isNamespace := strings.CutPrefix(prof.Name, namespaceProfile)
	if !isNamespace {
		return prof
	}
	labels := map[string]string{
		namespaceLabel + "projectcalico.org/name":      namespace,
		namespaceLabel + "kubernetes.io/metadata.name": namespace,
	}
	maps.Copy(labels, prof.Labels)
	return &policy.Profile{Name: prof.Name, Labels: labels, Ingress: prof.Ingress, Egress: prof.Egress}
}
