// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"maps"
	"slices"
	"strings"

	"korat/api"
	"korat/policy/selector"
)

// Doubt says how much of an Item is not known, as its object is not understood whole.
type Doubt uint8

// Of an Item in doubt nobody knows all addresses and named ports; of one that is Hollow not the labels either.
const (
	Whole Doubt = iota
	Partial
	Hollow
)

// Fault says what is wrong with an object that is not understood whole; nil if it is.
func Fault(obj api.Object) error {
	reason := api.Unreadable(obj)
	if reason == "" {
		return nil
	}
	c := &conversion{key: obj.Key()}
	c.unread(obj)
	return c.errs[0]
}

// unread notes that the object is not understood whole, if so.
func (c *conversion) unread(obj api.Object) {
	remedy := "is not understood whole (%s): apply it again, or delete it"
	if api.Held(obj) {
		remedy += "; until then what was read last counts, for as long as this agent runs"
	}
	if reason := api.Unreadable(obj); reason != "" {
		c.fail("object", "in the datastore", remedy, reason)
	}
}

// Doubts are what rules might concern, and nobody knows of: objects that are not understood whole. With them rules are made
// that are no more open than with those objects, whatever these say.
type Doubts struct {
	tiers    map[string]struct{}
	items    map[api.Key]doubtful
	services map[api.Key]Service
}

// doubtful is an Item of which not all is known. The labels are those that are known, inherited ones too.
type doubtful struct {
	doubt  Doubt
	labels map[string]string
}

// Clone gives a copy.
func (d *Doubts) Clone() *Doubts {
	return &Doubts{maps.Clone(d.tiers), maps.Clone(d.items), maps.Clone(d.services)}
}

// None says whether everything is known.
func (d *Doubts) None() bool { return d == nil || len(d.tiers)+len(d.items)+len(d.services) == 0 }

// Tier tells of a tier's object, which may be nil, and says whether that changes anything.
func (d *Doubts) Tier(name string, t *api.Tier) bool {
	_, was := d.tiers[name]
	is := t != nil && !builtIn(name) && api.Unreadable(t) != ""
	switch {
	case is && d.tiers == nil:
		d.tiers = map[string]struct{}{name: {}}
	case is:
		d.tiers[name] = struct{}{}
	default:
		delete(d.tiers, name)
	}
	return was != is
}

// Item tells of something that rules can pick, by the labels that it has and inherits, and says whether that changes anything.
func (d *Doubts) Item(key api.Key, doubt Doubt, labels map[string]string) bool {
	was, known := d.items[key]
	switch {
	case doubt == Whole:
		delete(d.items, key)
		return known
	case known && was.doubt == doubt && maps.Equal(was.labels, labels):
		return false
	case d.items == nil:
		d.items = map[api.Key]doubtful{}
	}
	d.items[key] = doubtful{doubt, labels}
	return true
}

// Items gives the keys of those in doubt, in no order.
func (d *Doubts) Items() []api.Key { return slices.Collect(maps.Keys(d.items)) }

// Slice tells of a slice of a service of which some may be missing, or no more, and says whether that changes anything. A
// Service without a name stands for any of its namespace.
func (d *Doubts) Slice(key api.Key, s Service, missing bool) bool {
	was, known := d.services[key]
	switch {
	case !missing:
		delete(d.services, key)
		return known
	case known && was == s:
		return false
	case d.services == nil:
		d.services = map[api.Key]Service{}
	}
	d.services[key] = s
	return true
}

// Policy gives what stands for a Policy. In a tier that nobody knows it denies, both before and after which other
// policies it comes being unknown. Else each of its rules matches at least what it might for a denial, and at most what it
// does for sure for anything else.
func (d *Doubts) Policy(p *Policy) *Policy {
	if d.None() || p == nil || p.Staged {
		return p
	}
	closed := *p
	if _, unknown := d.tiers[p.Tier]; unknown {
		closed.Ingress, closed.Egress = nil, nil
		if p.AppliesIngress {
			closed.Ingress = denied()
		}
		if p.AppliesEgress {
			closed.Egress = denied()
		}
		return &closed
	}
	var in, out bool
	closed.Ingress, in = d.rules(p.Ingress)
	closed.Egress, out = d.rules(p.Egress)
	if !in && !out {
		return p
	}
	return &closed
}

// Profile is Policy for a Profile.
func (d *Doubts) Profile(p *Profile) *Profile {
	if d.None() || p == nil {
		return p
	}
	closed := *p
	var in, out bool
	closed.Ingress, in = d.rules(p.Ingress)
	closed.Egress, out = d.rules(p.Egress)
	if !in && !out {
		return p
	}
	return &closed
}

// rules gives those that stand for a list, and whether they are others.
func (d *Doubts) rules(all []Rule) (closed []Rule, others bool) {
	for _, r := range all {
		widest, source := d.widest(r.Source)
		r2 := r
		r2.Source = widest
		var destination bool
		r2.Destination, destination = d.widest(r.Destination)
		sure := !d.mayExclude(&r.Source) && !d.mayExclude(&r.Destination)
		if !source && !destination && sure || r.Action == api.Log {
			closed = append(closed, r)
			continue
		}
		if sure && r.Action != api.Deny {
			closed = append(closed, r)
		}
		if r.Action != api.Allow {
			r2.Action = api.Deny
			closed = append(closed, r2)
		}
		others = others || r.Action != api.Allow || !sure
	}
	return closed, others
}

// widest gives an Entity that matches all that e might, and whether that is another one.
func (d *Doubts) widest(e Entity) (Entity, bool) {
	wider := false
	if e.Selector != nil && d.mayPick(e.Selector, false) {
		e.Selector, wider = nil, true
	}
	if len(e.NamedPorts) > 0 && d.mayPick(e.Selector, true) {
		e.Selector, e.Ports, e.NamedPorts, wider = nil, nil, nil, true
	}
	if e.Service != nil && d.mayServe(*e.Service) {
		e.Service, wider = nil, true
	}
	return e, wider
}

// mayExclude says whether an Entity might not match what it seems to.
func (d *Doubts) mayExclude(e *Entity) bool {
	return e.NotSelector != nil && d.mayPick(e.NotSelector, false) || len(e.NotNamedPorts) > 0 && d.mayPick(nil, true)
}

func (d *Doubts) mayServe(s Service) bool {
	for _, missing := range d.services {
		if missing.Namespace == s.Namespace && (missing.Name == s.Name || missing.Name == "") {
			return true
		}
	}
	return false
}

// mayPick says whether a selector, nil for all(), might pick something of which not all is known; with ports set something
// that has named ports.
func (d *Doubts) mayPick(s *selector.Selector, ports bool) bool {
	for key, it := range d.items {
		if set := isSet(key.Kind); ports && set {
			continue
		}
		if s == nil || it.doubt == Partial && s.Matches(it.labels) || it.doubt == Hollow && mayMatch(*s, key, it.labels) {
			return true
		}
	}
	return false
}

func isSet(k api.Kind) bool { return k == api.KindNetworkSet || k == api.KindGlobalNetworkSet }

// mayMatch says whether a selector might match an object of which the key alone is known, with the labels that it has all
// the same: those that no object can have of its own.
func mayMatch(s selector.Selector, key api.Key, labels map[string]string) bool {
	needs := s.Requirements()
	for _, r := range needs.Labels {
		value, has := labels[r.Key]
		if !certain(key.Kind, r.Key) {
			continue
		}
		if r.Present && !has || r.Absent && has || len(r.Values) > 0 && !slices.Contains(r.Values, value) {
			return false
		}
	}
	return !needs.Never
}

// certain says whether something of a kind has a label, or lacks it, whatever its object says: in which namespace it is, and of
// a set, what it inherits from that and that it is nobody's pod.
func certain(kind api.Kind, label string) bool {
	if label == LabelNamespace {
		return true
	}
	own := label == LabelOrchestrator || label == LabelServiceAccount ||
		strings.HasPrefix(label, namespacePrefix) || strings.HasPrefix(label, accountPrefix)
	return isSet(kind) && own
}

// Inherited gives an Item's labels with those of its profiles, as a Snapshot has them: its own win, then those of the first.
func (it Item) Inherited(snap api.Snapshot) map[string]string {
	all := maps.Clone(it.Labels)
	for _, name := range it.Parents {
		labels := map[string]string{}
		if o, ok := snap.Profiles.Get(name); ok {
			labels = nameLabels(name)
			maps.Copy(labels, o.Spec.LabelsToApply)
		} else if implied := Implied(name); implied != nil {
			labels = implied.Labels
		}
		for key, value := range labels {
			if _, has := all[key]; !has {
				all[key] = value
			}
		}
	}
	return all
}
