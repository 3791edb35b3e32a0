// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"korat/policy/selector"
)

// The labels that say what something is. No object can set them for itself: with them, and with those that have the
// prefixes, a pod would say that it is of another namespace.
const (
	LabelNamespace      = selector.NamespaceLabel
	LabelOrchestrator   = "projectcalico.org/orchestrator"
	LabelServiceAccount = "projectcalico.org/serviceaccount"

	// Before the names of labels of namespaces and of service accounts, as endpoints inherit them.
	namespacePrefix = "pcns."
	accountPrefix   = "pcsa."
)

// selector reads one that knows nothing of namespaces.
func (c *conversion) selector(field, text string) selector.Selector {
	s, _ := c.plain(field, text)
	return s
}

// plain gives all() and false for what is none.
func (c *conversion) plain(field, text string) (selector.Selector, bool) {
	s, err := selector.Parse(text)
	switch {
	case err != nil:
		c.fail(field, text, "%v", err)
	case s.HasGlobal():
		c.fail(field, text, "must not have global(), which can only be the whole of a namespaceSelector")
	default:
		return s, true
	}
	return selector.All(), false
}

// namespaces gives what is in namespaces that the text picks by their labels.
func (c *conversion) namespaces(field, text string) selector.Selector {
	if s, err := selector.Parse(text); err == nil && s.IsGlobal() {
		return s
	}
	s, ok := c.plain(field, text)
	if !ok {
		return s
	}
	return c.inherited(s, namespacePrefix, LabelNamespace)
}

// serviceAccounts gives the pods whose service accounts' labels the text picks.
func (c *conversion) serviceAccounts(field, text string) selector.Selector {
	s, ok := c.plain(field, text)
	if !ok {
		return s
	}
	return c.inherited(s, accountPrefix, LabelServiceAccount)
}

// inherited turns a Selector of namespaces (or service accounts) into one of endpoints. An endpoint in none has none
// of the labels with the prefix; where it would match for that, as with all() and with !=, it is kept out by label.
func (c *conversion) inherited(s selector.Selector, prefix, label string) selector.Selector {
	s = s.Prefixed(prefix)
	if !s.Matches(nil) {
		return s
	}
	return selector.And(c.has(label), s)
}

// namespace gives what is in the object's own namespace.
func (c *conversion) namespace() selector.Selector {
	if c.key.Namespace == "" {
		c.fail("metadata.namespace", "", "must be set")
		return selector.All()
	}
	return c.built("metadata.namespace", c.key.Namespace)(selector.In(LabelNamespace, c.key.Namespace))
}

func (c *conversion) has(label string) selector.Selector {
	return c.built(label, "")(selector.Has(label))
}

// labels reads a selector of Kubernetes.
func (c *conversion) labels(field string, l *metav1.LabelSelector) selector.Selector {
	var parts []selector.Selector
	for _, key := range slices.Sorted(maps.Keys(l.MatchLabels)) {
		value := l.MatchLabels[key]
		parts = append(parts, c.built(field+".matchLabels", key+": "+value)(selector.In(key, value)))
	}
	for i := range l.MatchExpressions {
		parts = append(parts, c.expression(index(field+".matchExpressions", i), &l.MatchExpressions[i]))
	}
	return selector.And(parts...)
}

func (c *conversion) expression(field string, e *metav1.LabelSelectorRequirement) selector.Selector {
	listed := e.Operator == metav1.LabelSelectorOpIn || e.Operator == metav1.LabelSelectorOpNotIn
	if listed != (len(e.Values) > 0) {
		c.fail(field+".values", e.Values, "must be set for In and NotIn, and for no other operator")
		return selector.All()
	}
	built := c.built(field, e.Key)
	switch e.Operator {
	case metav1.LabelSelectorOpIn:
		return built(selector.In(e.Key, e.Values...))
	case metav1.LabelSelectorOpNotIn:
		return built(negated(selector.In(e.Key, e.Values...)))
	case metav1.LabelSelectorOpExists:
		return built(selector.Has(e.Key))
	case metav1.LabelSelectorOpDoesNotExist:
		return built(negated(selector.Has(e.Key)))
	}
	c.fail(field+".operator", string(e.Operator), "must be In, NotIn, Exists or DoesNotExist")
	return selector.All()
}

func negated(s selector.Selector, err error) (selector.Selector, error) { return s.Not(), err }
