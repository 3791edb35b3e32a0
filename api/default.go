// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/netip"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The defaults that other packages name.
const (
	DefaultName        = "default"
	DefaultASNumber    = 64512
	DefaultListenPort  = 179
	DefaultKeepalive   = 30 * time.Second
	DefaultRestartTime = 120 * time.Second
	DefaultRefresh     = 90 * time.Second
	// DefaultIPCooldownSeconds outlives what others remember of a pod: ARP entries and connections.
	DefaultIPCooldownSeconds = 30

	defaultBlockSizeIPv4 = 26
	defaultBlockSizeIPv6 = 122
)

// The supported values of enumerated fields.
const (
	EncapNever          = "Never"
	SelectAll           = "all()"
	UseWorkload         = "Workload"
	UseTunnel           = "Tunnel"
	AssignAutomatic     = "Automatic"
	AssignManual        = "Manual"
	BindNone            = "None"
	BindNodeIP          = "NodeIP"
	AffinityHost        = "host"
	logSeverityInfo     = "Info"
	blockAffinityPrefix = AffinityHost + ":"
)

// Default fills in what was left empty: apiVersion and kind, the namespace of a namespaced object
// and every field of the spec that has a default. The object must be the caller's own.
func Default(obj Object) {
	switch o := obj.(type) {
	case *IPPool:
		defaultTypeMeta(&o.TypeMeta, KindIPPool)
		defaultIPPool(&o.Spec)
	case *BGPConfiguration:
		defaultTypeMeta(&o.TypeMeta, KindBGPConfiguration)
		defaultBGPConfiguration(&o.Spec)
	case *BGPPeer:
		defaultTypeMeta(&o.TypeMeta, KindBGPPeer)
		setDefault(&o.Spec.MaxRestartTime, &metav1.Duration{Duration: DefaultRestartTime})
		setDefault(&o.Spec.KeepaliveTime, &metav1.Duration{Duration: DefaultKeepalive})
	case *Node:
		defaultTypeMeta(&o.TypeMeta, KindNode)
	case *WorkloadEndpoint:
		defaultTypeMeta(&o.TypeMeta, KindWorkloadEndpoint)
		setDefault(&o.Namespace, DefaultName)
	case *IPAMConfiguration:
		defaultTypeMeta(&o.TypeMeta, KindIPAMConfiguration)
		setDefault(&o.Spec.StrictAffinity, new(true))
		setDefault(&o.Spec.IPCooldownSeconds, new(DefaultIPCooldownSeconds))
	case *IPReservation:
		defaultTypeMeta(&o.TypeMeta, KindIPReservation)
	case *BlockAffinity:
		defaultTypeMeta(&o.TypeMeta, KindBlockAffinity)
		setDefault(&o.Spec.Type, AffinityHost)
	case *IPAMBlock:
		defaultTypeMeta(&o.TypeMeta, KindIPAMBlock)
	case *ClusterInformation:
		defaultTypeMeta(&o.TypeMeta, KindClusterInformation)
		setDefault(&o.Spec.DatastoreReady, new(true))
	case *FelixConfiguration:
		defaultTypeMeta(&o.TypeMeta, KindFelixConfiguration)
		setDefault(&o.Spec.RouteRefreshInterval, &metav1.Duration{Duration: DefaultRefresh})
		setDefault(&o.Spec.InterfaceRefreshInterval, &metav1.Duration{Duration: DefaultRefresh})
	}
}

func defaultTypeMeta(m *metav1.TypeMeta, kind Kind) {
	setDefault(&m.APIVersion, GroupVersion)
	setDefault(&m.Kind, string(kind))
}

func defaultIPPool(s *IPPoolSpec) {
	blockSize := defaultBlockSizeIPv4
	if p, err := netip.ParsePrefix(s.CIDR); err == nil && p.Addr().Is6() {
		blockSize = defaultBlockSizeIPv6
	}
	setDefault(&s.BlockSize, blockSize)
	setDefault(&s.IPIPMode, EncapNever)
	setDefault(&s.VXLANMode, EncapNever)
	setDefault(&s.NodeSelector, SelectAll)
	setDefault(&s.NamespaceSelector, SelectAll)
	setDefault(&s.AssignmentMode, AssignAutomatic)
	if len(s.AllowedUses) == 0 {
		s.AllowedUses = []string{UseWorkload, UseTunnel}
	}
}

func defaultBGPConfiguration(s *BGPConfigurationSpec) {
	setDefault(&s.LogSeverityScreen, logSeverityInfo)
	setDefault(&s.NodeToNodeMeshEnabled, new(true))
	setDefault(&s.ASNumber, new(ASNumber(DefaultASNumber)))
	setDefault(&s.ListenPort, DefaultListenPort)
	setDefault(&s.BindMode, BindNone)
	setDefault(&s.NodeMeshMaxRestartTime, &metav1.Duration{Duration: DefaultRestartTime})
}

// setDefault sets the field if it holds its zero value.
func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
