// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"korat/api"
)

// ItemOf gives what rules know of a WorkloadEndpoint, HostEndpoint, NetworkSet or GlobalNetworkSet. As with Of, an
// error names what cannot be understood; the Item has the rest, and is in Doubt for what it lacks.
func ItemOf(obj api.Object) (Item, error) {
	c := &conversion{key: obj.Key()}
	item := Item{Labels: c.ownLabels(obj.GetLabels())}
	switch o := obj.(type) {
	case *api.WorkloadEndpoint:
		item.Labels[LabelOrchestrator] = cmp.Or(o.Spec.Orchestrator, "k8s")
		item.Parents = Profiles(o)
		item.Parents = append(item.Parents, NamespaceProfile(o.Namespace))
		if account := o.Spec.ServiceAccountName; account != "" {
			item.Labels[LabelServiceAccount] = account
			item.Parents = append(item.Parents, AccountProfile(o.Namespace, account))
		}
		item.Prefixes = c.nets("spec.ipNetworks", o.Spec.IPNetworks)
		item.Ports = c.endpointPorts(o.Spec.Ports)
	case *api.HostEndpoint:
		item.Parents = slices.Clone(o.Spec.Profiles)
		item.Prefixes = c.nets("spec.expectedIPs", o.Spec.ExpectedIPs)
		item.Ports = c.endpointPorts(o.Spec.Ports)
	case *api.NetworkSet:
		item.Parents = []string{NamespaceProfile(o.Namespace)}
		item.Prefixes = c.nets("spec.nets", o.Spec.Nets)
	case *api.GlobalNetworkSet:
		item.Prefixes = c.nets("spec.nets", o.Spec.Nets)
	default:
		return Item{}, fmt.Errorf("%s is nothing that rules can pick", c.key)
	}
	if c.key.Namespace != "" {
		item.Labels[LabelNamespace] = c.key.Namespace
	}
	item.Parents = once(item.Parents)
	item.Doubt = c.doubt(obj)
	return item, errors.Join(c.errs...)
}

// doubt says how much is missing, after all has been read. What was read last of an object that is held is all there is.
func (c *conversion) doubt(obj api.Object) Doubt {
	faulty := c.faulty
	c.unread(obj)
	switch {
	case api.Hollow(obj):
		return Hollow
	case faulty, c.faulty && !api.Held(obj):
		return Partial
	}
	return Whole
}

// Profiles gives the names of the profiles whose rules are for a WorkloadEndpoint that no Policy applies to: by default its
// namespace's, then its service account's.
func Profiles(w *api.WorkloadEndpoint) []string {
	if len(w.Spec.Profiles) > 0 {
		return slices.Clone(w.Spec.Profiles)
	}
	names := []string{NamespaceProfile(w.Namespace)}
	if account := w.Spec.ServiceAccountName; account != "" {
		names = append(names, AccountProfile(w.Namespace, account))
	}
	return names
}

// ownLabels leaves out what would say where the object belongs.
func (c *conversion) ownLabels(labels map[string]string) map[string]string {
	own := make(map[string]string, len(labels)+3)
	for key, value := range labels {
		switch {
		case belongs(key):
		case strings.HasPrefix(key, namespacePrefix), strings.HasPrefix(key, accountPrefix):
		default:
			own[key] = value
		}
	}
	return own
}

// belongs says whether the label says where something belongs.
func belongs(key string) bool {
	return key == LabelNamespace || key == LabelOrchestrator || key == LabelServiceAccount
}

func (c *conversion) endpointPorts(ports []api.EndpointPort) []NamedPort {
	var out []NamedPort
	for i, p := range ports {
		protocol := c.protocol(index("spec.ports", i)+".protocol", &p.Protocol)
		if protocol.hasPorts() {
			out = append(out, NamedPort{Name: p.Name, Protocol: protocol, Port: p.Port})
		}
	}
	return out
}

// once leaves out what is there already, and keeps the order, in which the first wins.
func once(names []string) []string {
	var out []string
	for _, name := range names {
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}
