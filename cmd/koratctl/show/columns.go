// SPDX-License-Identifier: Apache-2.0

package show

import (
	"fmt"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"korat/api"
)

// column is one column of a kind's table.
type column struct {
	title string
	value func(api.Object) string
}

// of makes a column of one kind's objects.
func of[T api.Object](title string, value func(T) string) column {
	return column{title, func(o api.Object) string {
		if typed, ok := o.(T); ok {
			return value(typed)
		}
		return ""
	}}
}

// columns gives a kind's columns, named as calicoctl names them; wide adds some.
func columns(kind api.Kind, wide bool) []column {
	narrow, more := kindColumns(kind)
	cols := []column{{"NAME", api.Object.GetName}}
	if info, ok := kind.Info(); ok && info.Namespaced {
		cols = []column{{"NAMESPACE", api.Object.GetNamespace}, cols[0]}
	}
	cols = append(cols, narrow...)
	if wide {
		cols = append(cols, more...)
	}
	return cols
}

func kindColumns(kind api.Kind) (narrow, more []column) {
	switch kind {
	case api.KindIPPool:
		return poolColumns()
	case api.KindBGPConfiguration, api.KindBGPPeer:
		return bgpColumns(kind)
	case api.KindNode:
		narrow = []column{
			of("ASN", func(o *api.Node) string {
				return nodeBGP(o, func(b *api.NodeBGPSpec) string { return number(b.ASNumber) })
			}),
			of("IPV4", func(o *api.Node) string { return nodeBGP(o, func(b *api.NodeBGPSpec) string { return b.IPv4Address }) }),
			of("IPV6", func(o *api.Node) string { return nodeBGP(o, func(b *api.NodeBGPSpec) string { return b.IPv6Address }) }),
		}
		more = []column{
			of("ADDRESSES", func(o *api.Node) string { return nodeAddresses(o) }),
		}
		return narrow, more
	case api.KindWorkloadEndpoint:
		return endpointColumns()
	case api.KindBlockAffinity, api.KindIPAMBlock, api.KindIPAMConfiguration, api.KindIPReservation:
		return ipamColumns(kind), nil
	case api.KindClusterInformation:
		narrow = []column{
			of("GUID", func(o *api.ClusterInformation) string { return o.Spec.ClusterGUID }),
			of("VERSION", func(o *api.ClusterInformation) string { return o.Spec.CalicoVersion }),
			of("READY", func(o *api.ClusterInformation) string { return boolean(o.Spec.DatastoreReady) }),
		}
		more = []column{
			of("TYPE", func(o *api.ClusterInformation) string { return o.Spec.ClusterType }),
		}
		return narrow, more
	case api.KindFelixConfiguration:
		return []column{
			of("ROUTEREFRESH", func(o *api.FelixConfiguration) string { return duration(o.Spec.RouteRefreshInterval) }),
			of("INTERFACEREFRESH", func(o *api.FelixConfiguration) string { return duration(o.Spec.InterfaceRefreshInterval) }),
		}, nil
	default:
		return policyKindColumns(kind)
	}
}

func poolColumns() (narrow, more []column) {
	narrow = []column{
		of("CIDR", func(o *api.IPPool) string { return o.Spec.CIDR }),
		of("BLOCKSIZE", func(o *api.IPPool) string { return strconv.Itoa(o.Spec.BlockSize) }),
		of("DISABLED", func(o *api.IPPool) string { return strconv.FormatBool(o.Spec.Disabled) }),
	}
	more = []column{
		of("NAT", func(o *api.IPPool) string { return strconv.FormatBool(o.Spec.NATOutgoing) }),
		of("IPIPMODE", func(o *api.IPPool) string { return o.Spec.IPIPMode }),
		of("VXLANMODE", func(o *api.IPPool) string { return o.Spec.VXLANMode }),
		of("DISABLEBGPEXPORT", func(o *api.IPPool) string { return strconv.FormatBool(o.Spec.DisableBGPExport) }),
		of("SELECTOR", func(o *api.IPPool) string { return o.Spec.NodeSelector }),
		of("USES", func(o *api.IPPool) string { return strings.Join(o.Spec.AllowedUses, ",") }),
		of("MODE", func(o *api.IPPool) string { return o.Spec.AssignmentMode }),
		of("ALLOCATABLE", allocatable),
	}
	return narrow, more
}

// allocatable says whether the pool gives out addresses at all, or in brackets why not, in the words of Calico's
// condition.
func allocatable(o *api.IPPool) string {
	switch {
	case o.Terminating():
		return "false (Terminating)"
	case o.Spec.Disabled:
		return "false (PoolDisabled)"
	default:
		return "true"
	}
}

func bgpColumns(kind api.Kind) (narrow, more []column) {
	if kind == api.KindBGPPeer {
		narrow = []column{
			of("PEERIP", func(o *api.BGPPeer) string { return o.Spec.PeerIP }),
			of("NODE", func(o *api.BGPPeer) string {
				if o.Spec.Node == "" {
					return "(global)"
				}
				return o.Spec.Node
			}),
			of("ASN", func(o *api.BGPPeer) string { return number(&o.Spec.ASNumber) }),
		}
		more = []column{
			of("KEEPALIVE", func(o *api.BGPPeer) string { return duration(o.Spec.KeepaliveTime) }),
			of("RESTARTTIME", func(o *api.BGPPeer) string { return duration(o.Spec.MaxRestartTime) }),
		}
		return narrow, more
	}
	narrow = []column{
		of("MESHENABLED", func(o *api.BGPConfiguration) string { return boolean(o.Spec.NodeToNodeMeshEnabled) }),
		of("ASNUMBER", func(o *api.BGPConfiguration) string { return number(o.Spec.ASNumber) }),
		of("LISTENPORT", func(o *api.BGPConfiguration) string { return strconv.Itoa(int(o.Spec.ListenPort)) }),
	}
	more = []column{
		of("BINDMODE", func(o *api.BGPConfiguration) string { return o.Spec.BindMode }),
		of("RESTARTTIME", func(o *api.BGPConfiguration) string { return duration(o.Spec.NodeMeshMaxRestartTime) }),
		of("LOGSEVERITY", func(o *api.BGPConfiguration) string { return o.Spec.LogSeverityScreen }),
	}
	return narrow, more
}

func endpointColumns() (narrow, more []column) {
	narrow = []column{
		of("NODE", func(o *api.WorkloadEndpoint) string { return o.Spec.Node }),
		of("NETWORKS", func(o *api.WorkloadEndpoint) string { return strings.Join(o.Spec.IPNetworks, ",") }),
		of("INTERFACE", func(o *api.WorkloadEndpoint) string { return o.Spec.InterfaceName }),
	}
	more = []column{
		of("POD", func(o *api.WorkloadEndpoint) string { return o.Spec.Pod }),
		of("ENDPOINT", func(o *api.WorkloadEndpoint) string { return o.Spec.Endpoint }),
		of("MAC", func(o *api.WorkloadEndpoint) string { return o.Spec.MAC }),
		of("CONTAINER", func(o *api.WorkloadEndpoint) string { return o.Spec.ContainerID }),
		{"LABELS", func(o api.Object) string { return labels(o.GetLabels()) }},
	}
	return narrow, more
}

func ipamColumns(kind api.Kind) []column {
	switch kind {
	case api.KindBlockAffinity:
		return []column{
			of("CIDR", func(o *api.BlockAffinity) string { return o.Spec.CIDR }),
			of("NODE", func(o *api.BlockAffinity) string { return o.Spec.Node }),
			of("STATE", func(o *api.BlockAffinity) string { return o.Spec.State }),
		}
	case api.KindIPAMBlock:
		return []column{
			of("CIDR", func(o *api.IPAMBlock) string { return o.Spec.CIDR }),
			of("NODE", blockNode),
			of("USED", func(o *api.IPAMBlock) string { return strconv.Itoa(used(o)) }),
			of("FREE", func(o *api.IPAMBlock) string { return strconv.Itoa(len(o.Spec.Allocations) - used(o)) }),
		}
	case api.KindIPReservation:
		return []column{of("CIDRS", func(o *api.IPReservation) string { return strings.Join(o.Spec.ReservedCIDRs, ",") })}
	default:
		return []column{
			of("STRICTAFFINITY", func(o *api.IPAMConfiguration) string { return boolean(o.Spec.StrictAffinity) }),
			of("AUTOALLOCATEBLOCKS", func(o *api.IPAMConfiguration) string { return boolean(o.Spec.AutoAllocateBlocks) }),
			of("MAXBLOCKSPERHOST", func(o *api.IPAMConfiguration) string { return strconv.Itoa(o.Spec.MaxBlocksPerHost) }),
			of("IPCOOLDOWNSECONDS", func(o *api.IPAMConfiguration) string { return integer(o.Spec.IPCooldownSeconds) }),
		}
	}
}

// blockNode gives the node of "host:<node>", or nothing.
func blockNode(b *api.IPAMBlock) string {
	if b.Spec.Affinity == nil {
		return ""
	}
	_, node, _ := strings.Cut(*b.Spec.Affinity, ":")
	return node
}

// used counts what is not free: in use, cooling down or leased.
func used(b *api.IPAMBlock) int {
	n := 0
	for _, a := range b.Spec.Allocations {
		if a != nil {
			n++
		}
	}
	return n
}

// nodeBGP gives a value of the node's BGP side, or nothing where it takes no part.
func nodeBGP(o *api.Node, value func(*api.NodeBGPSpec) string) string {
	if o.Spec.BGP == nil {
		return ""
	}
	return value(o.Spec.BGP)
}

func nodeAddresses(o *api.Node) string {
	texts := make([]string, 0, len(o.Spec.Addresses))
	for _, a := range o.Spec.Addresses {
		texts = append(texts, a.Address)
	}
	return strings.Join(texts, ",")
}

func number(n *api.ASNumber) string {
	if n == nil {
		return "(default)"
	}
	return fmt.Sprint(*n)
}

func boolean(b *bool) string {
	if b == nil {
		return ""
	}
	return strconv.FormatBool(*b)
}

func duration(d *metav1.Duration) string {
	if d == nil {
		return ""
	}
	return d.Duration.String()
}
