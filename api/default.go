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
	defaultMeta(obj)
	switch o := obj.(type) {
	case *IPPool:
		defaultIPPool(&o.Spec)
	case *BGPConfiguration:
		defaultBGPConfiguration(&o.Spec)
	case *BGPPeer:
		setDefault(&o.Spec.MaxRestartTime, &metav1.Duration{Duration: DefaultRestartTime})
		setDefault(&o.Spec.KeepaliveTime, &metav1.Duration{Duration: DefaultKeepalive})
	case *IPAMConfiguration:
		setDefault(&o.Spec.StrictAffinity, new(true))
		setDefault(&o.Spec.IPCooldownSeconds, new(DefaultIPCooldownSeconds))
	case *BlockAffinity:
		setDefault(&o.Spec.Type, AffinityHost)
	case *ClusterInformation:
		setDefault(&o.Spec.DatastoreReady, new(true))
	case *FelixConfiguration:
		defaultFelixConfiguration(&o.Spec)
	case *KubernetesNetworkPolicy:
		defaultKubernetesPolicy(&o.Spec)
	case *EndpointSlice:
		defaultEndpointSlice(o)
	default:
		defaultPolicyKind(obj)
	}
}

// defaultMeta sets apiVersion and kind, and the namespace of a kind that has one.
func defaultMeta(obj Object) {
	info, ok := obj.Key().Kind.Info()
	if !ok {
		return
	}
	if apiVersion, kind := obj.GetObjectKind().GroupVersionKind().ToAPIVersionAndKind(); apiVersion == "" || kind == "" {
		SetType(obj)
	}
	if info.Namespaced && obj.GetNamespace() == "" {
		obj.SetNamespace(DefaultName)
	}
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

// defaultKubernetesPolicy does what Kubernetes' API server does.
func defaultKubernetesPolicy(s *KubernetesNetworkPolicySpec) {
	if len(s.PolicyTypes) == 0 {
		s.PolicyTypes = []PolicyType{Ingress}
		if len(s.Egress) > 0 {
			s.PolicyTypes = append(s.PolicyTypes, Egress)
		}
	}
	for _, rule := range s.Ingress {
		defaultProtocols(rule.Ports)
	}
	for _, rule := range s.Egress {
		defaultProtocols(rule.Ports)
	}
}

func defaultProtocols(ports []KubernetesPolicyPort) {
	for i := range ports {
		setDefault(&ports[i].Protocol, new(ProtocolTCP))
	}
}
