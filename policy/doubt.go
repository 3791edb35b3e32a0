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

const (
	// Whole is an Item of which everything is known.
	Whole Doubt = iota
	// Partial is an Item of which there may be more addresses and named ports.
	Partial
	// Unlabelled is one that inherits labels from a profile of which nothing is known.
	Unlabelled
	// Hollow is one of which nothing is known but the name.
	Hollow
)

// Labelled says whether all labels are known that the Item has or inherits, and so which policies and selectors it is for.
func (d Doubt) Labelled() bool { return d <= Partial }

// unread notes that the object is not understood whole, if so.
func (c *conversion) unread(obj api.Object) {
	if err := api.Fault(obj); err != nil {
		c.errs, c.faulty = append(c.errs, err), true
	}
}

// Doubts are what rules might concern, and nobody knows of: objects that are not understood whole. With them rules are made
// that are no more open than with those objects, whatever these say.
type Doubts struct {
	tiers    map[string]struct{}
	items    map[api.Key]doubtful
	services map[api.Key]Service
}

// doubtful is an Item of which not all is known, with the labels that are: of one that is Partial inherited ones too.
type doubtful struct {
	Doubt
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

// Item tells of something that rules can pick, as a Snapshot has what it inherits, and says whether that changes anything.
func (d *Doubts) Item(snap api.Snapshot, key api.Key, it Item) bool {
	was, known := d.items[key]
	if it.Doubt == Whole {
		delete(d.items, key)
		return known
	}
	now := doubtful{it.Doubt, it.Labels}
	if it.Doubt == Partial {
		now.labels = it.inherited(snap)
	}
	if d.items == nil {
		d.items = map[api.Key]doubtful{}
	}
	d.items[key] = now
	return !known || was.Doubt != now.Doubt || !maps.Equal(was.labels, now.labels)
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
	var others bool
	if closed.Ingress, closed.Egress, others = d.directions(p.Ingress, p.Egress); !others {
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
	var others bool
	if closed.Ingress, closed.Egress, others = d.directions(p.Ingress, p.Egress); !others {
		return p
	}
	return &closed
}

// directions is rules for both lists.
func (d *Doubts) directions(ingress, egress []Rule) (in, out []Rule, others bool) {
	in, othersIn := d.rules(ingress)
	out, othersOut := d.rules(egress)
	return in, out, othersIn || othersOut
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
		if ports && isSet(key.Kind) {
			continue
		}
		if s == nil || it.Doubt == Partial && s.Matches(it.labels) || !it.Labelled() && it.mayMatch(*s, key.Kind) {
			return true
		}
	}
	return false
}

func isSet(k api.Kind) bool { return k == api.KindNetworkSet || k == api.KindGlobalNetworkSet }

// mayMatch says whether a selector might match something of a kind by labels of which not all are known.
func (it doubtful) mayMatch(s selector.Selector, kind api.Kind) bool {
	needs := s.Requirements()
	for _, r := range needs.Labels {
		value, has := it.labels[r.Key]
		if !it.certain(kind, r.Key) {
			continue
		}
		if r.Present && !has || r.Absent && has || len(r.Values) > 0 && !slices.Contains(r.Values, value) {
			return false
		}
	}
	return !needs.Never
}

// certain says whether it is known that something of a kind has a label or lacks it. In which namespace it is and, of a set, that
// it is nobody's pod and has no service account, no object decides by itself.
func (it doubtful) certain(kind api.Kind, label string) bool {
	_, own := it.labels[label]
	nobodys := label == LabelOrchestrator || label == LabelServiceAccount || strings.HasPrefix(label, accountPrefix)
	switch {
	case label == LabelNamespace, own && it.Doubt == Unlabelled:
		return true
	case kind == api.KindGlobalNetworkSet:
		return nobodys || strings.HasPrefix(label, namespacePrefix)
	}
	return nobodys && kind == api.KindNetworkSet
}

// inherited gives an Item's labels with those of its profiles, as a Snapshot has them: its own win, then those of the first.
func (it *Item) inherited(snap api.Snapshot) map[string]string {
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

// Inherit notes whether the Item has a profile of which nothing is known.
func (it *Item) Inherit(snap api.Snapshot) {
	for _, name := range it.Parents {
		if o, ok := snap.Profiles.Get(name); ok && api.Hollow(o) {
			it.Doubt = max(it.Doubt, Unlabelled)
		}
	}
}

// LabelUnknown is that of what Closing is for.
const LabelUnknown = "korat.internal/unknown"

// Closing is a policy that denies everything, before all others, to host endpoints with LabelUnknown: those of which it is not known
// which policies are for them.
func Closing() *Policy {
	is, _ := selector.Has(LabelUnknown) // it is a label's name
	return &Policy{
		ID: ID{Kind: KindGlobal, Name: unknownTier}, Tier: unknownTier, Selector: is, Stage: Forward,
		AppliesIngress: true, AppliesEgress: true, Ingress: denied(), Egress: denied(),
	}
}
