// SPDX-License-Identifier: Apache-2.0

package differential

import (
	"fmt"
	"strings"

	"korat/api"
	"korat/cni-plugin/socket"
	"korat/felix/endpoint"
)

// update gives what changes at one moment: mostly one object, now and then several, or a pod comes or goes.
func (r *Scene) update(snap api.Snapshot) (string, Change) {
	if r.maybe(12) {
		return r.spare()
	}
	n := pick(r, 1, 1, 1, 2, 3, 6)
	var all Change
	var names []string
	touched := map[api.Key]bool{}
	for range n {
		name, c := r.mutate(snap)
		fits := true
		for _, obj := range append(c.Put, c.Delete...) {
			fits = fits && !touched[obj.Key()]
			touched[obj.Key()] = true
		}
		if fits {
			names = append(names, name)
			all.Put, all.Delete = append(all.Put, c.Put...), append(all.Delete, c.Delete...)
		}
	}
	return strings.Join(names, ", "), all
}

// spares is how many pods come and go. They neither send nor receive anything, but policies are for them and about them.
const spares = 3

// spare has a pod come, or go if it is there.
func (r *Scene) spare() (string, Change) {
	i := r.IntN(spares)
	name := fmt.Sprint("spare", i)
	id := endpoint.ID{ContainerID: name, IfName: "eth0"}
	if r.attached[i] = !r.attached[i]; !r.attached[i] {
		return name + " goes", Change{Ask: []socket.Request{{Verb: socket.VerbDel, ID: id}}}
	}
	return name + " comes", Change{Ask: []socket.Request{{
		Verb: socket.VerbAdd, ID: id, Network: "korat", Namespace: namespaces()[i], Pod: name,
		Wish: socket.Wish{Families: []socket.Family{{Version: 4}, {Version: 6}}}, Traits: r.traits(),
	}}}
}

// mutate gives one change of one object, of those that there are or of another.
func (r *Scene) mutate(snap api.Snapshot) (string, Change) {
	for {
		kind := pick(r, api.KindTier, api.KindProfile, api.KindNetworkSet, api.KindGlobalNetworkSet, api.KindWorkloadEndpoint,
			api.KindWorkloadEndpoint, api.KindNetworkPolicy, api.KindGlobalNetworkPolicy, api.KindKubernetesNetworkPolicy,
			api.KindClusterNetworkPolicy, api.KindStagedNetworkPolicy, api.KindStagedGlobalNetworkPolicy, api.KindHostEndpoint,
			api.KindEndpointSlice, api.KindFelixConfiguration)
		var have []api.Object
		for obj := range snap.Objects(kind) {
			have = append(have, obj)
		}
		switch {
		case len(have) > 0 && r.maybe(5) && kind != api.KindWorkloadEndpoint && kind != api.KindFelixConfiguration:
			obj := pick(r, have...)
			return "delete " + obj.Key().String(), Change{Delete: []api.Object{obj}}
		case len(have) > 0 && r.maybe(2):
			obj := r.tweak(pick(r, have...))
			if obj != nil {
				api.Default(obj)
			}
			if obj != nil && api.Validate(obj) == nil {
				return "change " + obj.Key().String(), Change{Put: []api.Object{obj}}
			}
		case kind == api.KindFelixConfiguration: // there is one in each world, which changes and stays
		case kind != api.KindWorkloadEndpoint || r.maybe(4):
			obj := r.valid(r.maker(kind))
			return "put " + obj.Key().String(), Change{Put: []api.Object{obj}}
		}
	}
}

func (r *Scene) maker(kind api.Kind) func() api.Object {
	switch kind {
	case api.KindTier:
		return r.tier
	case api.KindProfile:
		return pick(r, r.profile, r.profile, r.account)
	case api.KindNetworkSet:
		return r.networkSet
	case api.KindGlobalNetworkSet:
		return r.globalNetworkSet
	case api.KindWorkloadEndpoint:
		return r.stranger
	case api.KindNetworkPolicy:
		return r.networkPolicy
	case api.KindGlobalNetworkPolicy:
		return r.globalPolicy
	case api.KindKubernetesNetworkPolicy:
		return r.kubernetesPolicy
	case api.KindClusterNetworkPolicy:
		return r.clusterPolicy
	case api.KindHostEndpoint:
		return r.hostEndpoint
	case api.KindEndpointSlice:
		return r.slice
	case api.KindStagedGlobalNetworkPolicy:
		return r.stagedGlobalPolicy
	default:
		return r.stagedPolicy
	}
}

// tweak changes a little of an object; nil if it has nothing to change.
func (r *Scene) tweak(obj api.Object) api.Object {
	obj = obj.DeepCopyObject()
	switch o := obj.(type) {
	case *api.WorkloadEndpoint:
		o.Labels = r.labels()
	case *api.NetworkSet:
		o.Labels = r.labels()
	case *api.GlobalNetworkSet:
		o.Labels = r.labels()
	case *api.HostEndpoint:
		o.Labels = r.labels()
	case *api.FelixConfiguration: // but for the backend: what the agent works with is no update of policies
		was := o.Spec.IptablesBackend
		o = r.felix().(*api.FelixConfiguration)
		o.Spec.IptablesBackend = was
		return o
	case *api.Profile:
		if o.Spec.LabelsToApply == nil {
			return nil
		}
		o.Spec.LabelsToApply = map[string]string{"pcns.env": pick(r, "prod", "dev"), "z": r.value()}
	case *api.Tier:
		if api.Default(o); o.Name == api.DefaultName {
			return nil
		}
		o.Spec.Order = r.order(10, 500, 2000, 2_000_000, 20_000_000)
	case *api.NetworkPolicy:
		r.tweakBase(&o.Spec.PolicyBase)
	case *api.GlobalNetworkPolicy:
		if r.tweakBase(&o.Spec.PolicyBase); r.maybe(4) { // from before DNAT to after it, or the other way round
			o.Spec.ApplyOnForward, o.Spec.PreDNAT = true, !o.Spec.PreDNAT
			o.Spec.Types = []api.PolicyType{api.Ingress}
		}
	default:
		return nil
	}
	return obj
}

// tweakBase changes what all policies have.
func (r *Scene) tweakBase(p *api.PolicyBase) {
	switch r.IntN(4) {
	case 0:
		p.Order = r.order(1, 2, 1000)
	case 1:
		p.Selector = r.selector()
	default:
		r.Shuffle(len(p.Ingress), func(i, j int) { p.Ingress[i], p.Ingress[j] = p.Ingress[j], p.Ingress[i] })
		r.Shuffle(len(p.Egress), func(i, j int) { p.Egress[i], p.Egress[j] = p.Egress[j], p.Egress[i] })
	}
}
