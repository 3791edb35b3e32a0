// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"maps"
	"strings"

	"korat/api"
)

// The names of profiles of namespaces and of service accounts begin so.
const (
	namespaceProfile = "kns."
	accountProfile   = "ksa."
)

// DefaultAllow is the name of a profile that is always there and allows everything. Calico gives it to the host
// endpoints that it makes by itself.
const DefaultAllow = "projectcalico-default-allow"

// NamespaceProfile gives the name of a namespace's profile.
func NamespaceProfile(namespace string) string { return namespaceProfile + namespace }

// AccountProfile gives the name of a service account's profile.
func AccountProfile(namespace, account string) string {
	return accountProfile + namespace + "." + account
}

// ProfileOf gives the Profile that an object is. As with Of, a Profile comes with an error too: it has the object's
// labels, and denies everything in a direction with faults.
func ProfileOf(o *api.Profile) (*Profile, error) {
	c := &conversion{key: o.Key()}
	p := &Profile{Name: o.Name, Labels: nameLabels(o.Name)}
	maps.Copy(p.Labels, o.Spec.LabelsToApply)
	maps.DeleteFunc(p.Labels, func(key, _ string) bool { return belongs(key) }) // nothing belongs elsewhere by its profile
	p.Ingress = c.within(api.Ingress, func() []Rule { return c.profileRules("spec.ingress", o.Spec.Ingress) })
	p.Egress = c.within(api.Egress, func() []Rule { return c.profileRules("spec.egress", o.Spec.Egress) })
	if c.unread(o); api.Unreadable(o) != "" {
		c.faultyIngress, c.faultyEgress = true, true
	}
	if c.faultyIngress {
		p.Ingress = denied()
	}
	if c.faultyEgress {
		p.Egress = denied()
	}
	return p, errors.Join(c.errs...)
}

func (c *conversion) profileRules(field string, rules []api.Rule) []Rule {
	for i := range rules {
		if rules[i].Action == api.Pass {
			c.fail(index(field, i)+".action", string(api.Pass), "must be Allow, Deny or Log: no tier comes after a profile")
		}
	}
	return c.rules(field, rules)
}

// Implied gives the profile of a namespace or service account that has no object, or DefaultAllow, by the profile's
// name: that of a namespace allows everything, that of a service account has no rules. It is nil for any other name.
func Implied(name string) *Profile {
	p := &Profile{Name: name, Labels: nameLabels(name)}
	switch {
	case name != DefaultAllow && len(p.Labels) == 0:
		return nil
	case name == DefaultAllow, strings.HasPrefix(name, namespaceProfile):
		p.Ingress, p.Egress = []Rule{{Action: api.Allow}}, []Rule{{Action: api.Allow}}
	}
	return p
}

// ImpliedProfile is Implied for a namespace by its name.
func ImpliedProfile(namespace string) *Profile { return Implied(NamespaceProfile(namespace)) }

// nameLabels gives the labels that a namespace and a service account have for their names.
func nameLabels(profile string) map[string]string {
	labels := map[string]string{}
	if namespace, ok := strings.CutPrefix(profile, namespaceProfile); ok {
		labels[namespacePrefix+"projectcalico.org/name"] = namespace
		// Kubernetes gives it to each namespace.
		labels[namespacePrefix+"kubernetes.io/metadata.name"] = namespace
	}
	if account, ok := strings.CutPrefix(profile, accountProfile); ok {
		// No namespace has a dot in its name; a service account may.
		_, account, _ = strings.Cut(account, ".")
		labels[accountPrefix+"projectcalico.org/name"] = account
	}
	return labels
}
