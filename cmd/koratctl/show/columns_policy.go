// SPDX-License-Identifier: Apache-2.0

package show

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"korat/api"
)

// mostNets is how many characters of a set's networks a table has.
const mostNets = 80

// policyKindColumns gives the columns of the kinds that say who may speak with whom.
func policyKindColumns(kind api.Kind) (narrow, more []column) {
	switch kind {
	case api.KindTier:
		return []column{
			of("ORDER", func(o *api.Tier) string { return decimal(o.Spec.Order) }),
			of("DEFAULTACTION", func(o *api.Tier) string { return string(o.Spec.DefaultAction) }),
		}, nil
	case api.KindProfile:
		narrow = []column{of("LABELS", func(o *api.Profile) string { return labels(o.Spec.LabelsToApply) })}
		more = []column{
			of("INGRESS", func(o *api.Profile) string { return strconv.Itoa(len(o.Spec.Ingress)) }),
			of("EGRESS", func(o *api.Profile) string { return strconv.Itoa(len(o.Spec.Egress)) }),
		}
		return narrow, more
	case api.KindNetworkPolicy, api.KindGlobalNetworkPolicy, api.KindStagedNetworkPolicy, api.KindStagedGlobalNetworkPolicy:
		return policyColumns(kind)
	case api.KindKubernetesNetworkPolicy, api.KindClusterNetworkPolicy:
		return kubernetesColumns(kind)
	case api.KindNetworkSet, api.KindGlobalNetworkSet:
		narrow = []column{{"NETS", func(o api.Object) string { return shortened(strings.Join(nets(o), ",")) }}}
		more = []column{{"LABELS", func(o api.Object) string { return labels(o.GetLabels()) }}}
		return narrow, more
	case api.KindEndpointSlice:
		return sliceColumns()
	case api.KindHostEndpoint:
		narrow = []column{
			of("NODE", func(o *api.HostEndpoint) string { return o.Spec.Node }),
			of("INTERFACE", func(o *api.HostEndpoint) string { return o.Spec.InterfaceName }),
			of("IPS", func(o *api.HostEndpoint) string { return strings.Join(o.Spec.ExpectedIPs, ",") }),
		}
		more = []column{
			of("PROFILES", func(o *api.HostEndpoint) string { return strings.Join(o.Spec.Profiles, ",") }),
			{"LABELS", func(o api.Object) string { return labels(o.GetLabels()) }},
		}
		return narrow, more
	default:
		return nil, nil
	}
}

// policyColumns are those of Calico's own policies. What selects everything shows as all().
func policyColumns(kind api.Kind) (narrow, more []column) {
	base := func(title string, value func(api.PolicyBase) string) column {
		return column{title, func(o api.Object) string { return value(policyBase(o)) }}
	}
	narrow = []column{
		base("TIER", func(s api.PolicyBase) string { return s.Tier }),
		base("ORDER", func(s api.PolicyBase) string { return decimal(s.Order) }),
		base("SELECTOR", func(s api.PolicyBase) string { return cmp.Or(s.Selector, api.SelectAll) }),
	}
	more = []column{
		base("TYPES", func(s api.PolicyBase) string { return types(s.Types) }),
		base("INGRESS", func(s api.PolicyBase) string { return strconv.Itoa(len(s.Ingress)) }),
		base("EGRESS", func(s api.PolicyBase) string { return strconv.Itoa(len(s.Egress)) }),
		base("SERVICEACCOUNTS", func(s api.PolicyBase) string { return s.ServiceAccountSelector }),
	}
	switch kind {
	case api.KindStagedNetworkPolicy:
		narrow = append(narrow, of("ACTION", func(o *api.StagedNetworkPolicy) string { return o.Spec.StagedAction }))
	case api.KindStagedGlobalNetworkPolicy:
		narrow = append(narrow, of("ACTION", func(o *api.StagedGlobalNetworkPolicy) string { return o.Spec.StagedAction }))
		more = append(more, globalColumns(func(o api.Object) api.GlobalNetworkPolicySpec {
			return o.(*api.StagedGlobalNetworkPolicy).Spec.GlobalNetworkPolicySpec
		})...)
	case api.KindGlobalNetworkPolicy:
		more = append(more, globalColumns(func(o api.Object) api.GlobalNetworkPolicySpec {
			return o.(*api.GlobalNetworkPolicy).Spec
		})...)
	default:
	}
	return narrow, more
}

func globalColumns(spec func(api.Object) api.GlobalNetworkPolicySpec) []column {
	return []column{
		{"NAMESPACES", func(o api.Object) string { return spec(o).NamespaceSelector }},
		{"STAGE", func(o api.Object) string {
			switch s := spec(o); {
			case s.DoNotTrack:
				return "DoNotTrack"
			case s.PreDNAT:
				return "PreDNAT"
			case s.ApplyOnForward:
				return "ApplyOnForward"
			}
			return ""
		}},
	}
}

// policyBase gives what policies have in common.
func policyBase(obj api.Object) api.PolicyBase {
	switch o := obj.(type) {
	case *api.NetworkPolicy:
		return o.Spec.PolicyBase
	case *api.GlobalNetworkPolicy:
		return o.Spec.PolicyBase
	case *api.StagedNetworkPolicy:
		return o.Spec.PolicyBase
	case *api.StagedGlobalNetworkPolicy:
		return o.Spec.PolicyBase
	}
	return api.PolicyBase{}
}

func kubernetesColumns(kind api.Kind) (narrow, more []column) {
	if kind == api.KindKubernetesNetworkPolicy {
		narrow = []column{
			of("PODS", func(o *api.KubernetesNetworkPolicy) string { return labelSelector(&o.Spec.PodSelector) }),
			of("TYPES", func(o *api.KubernetesNetworkPolicy) string { return types(o.Spec.PolicyTypes) }),
		}
		more = []column{
			of("INGRESS", func(o *api.KubernetesNetworkPolicy) string { return strconv.Itoa(len(o.Spec.Ingress)) }),
			of("EGRESS", func(o *api.KubernetesNetworkPolicy) string { return strconv.Itoa(len(o.Spec.Egress)) }),
		}
		return narrow, more
	}
	narrow = []column{
		of("TIER", func(o *api.ClusterNetworkPolicy) string { return o.Spec.Tier }),
		of("PRIORITY", func(o *api.ClusterNetworkPolicy) string { return strconv.Itoa(int(o.Spec.Priority)) }),
		of("NAMESPACES", func(o *api.ClusterNetworkPolicy) string {
			if pods := o.Spec.Subject.Pods; pods != nil {
				return labelSelector(&pods.NamespaceSelector)
			}
			return labelSelector(o.Spec.Subject.Namespaces)
		}),
		of("PODS", func(o *api.ClusterNetworkPolicy) string {
			if pods := o.Spec.Subject.Pods; pods != nil {
				return labelSelector(&pods.PodSelector)
			}
			return api.SelectAll
		}),
	}
	more = []column{
		of("INGRESS", func(o *api.ClusterNetworkPolicy) string { return strconv.Itoa(len(o.Spec.Ingress)) }),
		of("EGRESS", func(o *api.ClusterNetworkPolicy) string { return strconv.Itoa(len(o.Spec.Egress)) }),
	}
	return narrow, more
}

// labelSelector gives "app=web,tier in (a,b)" as kubectl does, and all() for the empty one.
func labelSelector(s *metav1.LabelSelector) string {
	if s != nil && len(s.MatchLabels) == 0 && len(s.MatchExpressions) == 0 {
		return api.SelectAll
	}
	return metav1.FormatLabelSelector(s)
}

func nets(obj api.Object) []string {
	switch o := obj.(type) {
	case *api.NetworkSet:
		return o.Spec.Nets
	case *api.GlobalNetworkSet:
		return o.Spec.Nets
	}
	return nil
}

func shortened(text string) string {
	if len(text) <= mostNets {
		return text
	}
	return text[:mostNets-len("...")] + "..."
}

func decimal(n *float64) string {
	if n == nil {
		return ""
	}
	return strconv.FormatFloat(*n, 'f', -1, 64)
}

func types(all []api.PolicyType) string {
	names := make([]string, 0, len(all))
	for _, t := range all {
		names = append(names, string(t))
	}
	return strings.Join(names, ",")
}

// labels gives "a=1,b=2" in the order of the keys.
func labels(all map[string]string) string {
	pairs := make([]string, 0, len(all))
	for _, key := range slices.Sorted(maps.Keys(all)) {
		pairs = append(pairs, key+"="+all[key])
	}
	return strings.Join(pairs, ",")
}
