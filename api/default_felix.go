// SPDX-License-Identifier: Apache-2.0

package api

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The values of FelixConfiguration's enumerated fields.
const (
	IptablesAuto   = "Auto"
	IptablesNFT    = "NFT"
	IptablesLegacy = "Legacy"

	FelixAccept   = "Accept"
	FelixDrop     = "Drop"
	FelixReject   = "Reject"
	FelixReturn   = "Return"
	FelixDisabled = "Disabled"

	chainInsert = "Insert"
)

const (
	defaultIptablesRefresh = 180 * time.Second
	defaultMaxIpsetSize    = 1 << 20
	iptablesMarkMask       = 0xffff0000
	defaultLogPrefix       = "calico-packet"
)

func defaultFelixConfiguration(s *FelixConfigurationSpec) {
	setDefault(&s.RouteRefreshInterval, &metav1.Duration{Duration: DefaultRefresh})
	setDefault(&s.InterfaceRefreshInterval, &metav1.Duration{Duration: DefaultRefresh})
	setDefault(&s.IptablesBackend, IptablesAuto)
	setDefault(&s.ChainInsertMode, chainInsert)
	setDefault(&s.IptablesRefreshInterval, &metav1.Duration{Duration: defaultIptablesRefresh})
	setDefault(&s.IpsetsRefreshInterval, &metav1.Duration{Duration: DefaultRefresh})
	setDefault(&s.MaxIpsetSize, defaultMaxIpsetSize)
	setDefault(&s.IptablesMarkMask, new(uint32(iptablesMarkMask)))
	setDefault(&s.DefaultEndpointToHostAction, FelixReturn)
	setDefault(&s.IptablesFilterAllowAction, FelixAccept)
	setDefault(&s.IptablesMangleAllowAction, FelixAccept)
	setDefault(&s.IptablesFilterDenyAction, FelixDrop)
	setDefault(&s.LogPrefix, defaultLogPrefix)
	setDefault(&s.ServiceLoopPrevention, FelixDrop)
	setDefault(&s.WorkloadSourceSpoofing, FelixDisabled)
	if s.FailsafeInboundHostPorts == nil {
		s.FailsafeInboundHostPorts = new(failsafePorts([]uint16{22}, []uint16{68}))
	}
	if s.FailsafeOutboundHostPorts == nil {
		s.FailsafeOutboundHostPorts = new(failsafePorts(nil, []uint16{53, 67}))
	}
	for _, ports := range []*[]ProtoPort{s.FailsafeInboundHostPorts, s.FailsafeOutboundHostPorts} {
		for i := range *ports {
			setDefault(&(*ports)[i].Protocol, ProtocolTCP)
		}
	}
}

// failsafePorts gives the given ports and those that a host needs both ways: BGP, etcd, Typha and the Kubernetes API.
func failsafePorts(tcp, udp []uint16) []ProtoPort {
	var ports []ProtoPort
	for _, port := range append(tcp, 179, 2379, 2380, 5473, 6443, 6666, 6667) {
		ports = append(ports, ProtoPort{Protocol: ProtocolTCP, Port: port})
	}
	for _, port := range udp {
		ports = append(ports, ProtoPort{Protocol: ProtocolUDP, Port: port})
	}
	return ports
}
