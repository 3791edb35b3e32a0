// SPDX-License-Identifier: Apache-2.0

package api

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// FelixConfiguration holds the data plane's settings; its only supported name is "default".
type FelixConfiguration struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              FelixConfigurationSpec `json:"spec,omitempty"`
}

// FelixConfigurationSpec is the subset of Calico's that korat supports.
type FelixConfigurationSpec struct {
	// RouteRefreshInterval is the period of the route resync [90s].
	RouteRefreshInterval *metav1.Duration `json:"routeRefreshInterval,omitempty"`
	// InterfaceRefreshInterval is the period of the link, sysctl and neighbour resync [90s].
	InterfaceRefreshInterval *metav1.Duration `json:"interfaceRefreshInterval,omitempty"`
	FelixIptables            `json:",inline"`
	FelixPolicy              `json:",inline"`
	FelixFixed               `json:",inline"`
}

// FelixIptables says how rules and sets are kept in the kernel.
type FelixIptables struct {
	// IptablesBackend is NFT, Legacy, or Auto: what the host's others use [Auto].
	IptablesBackend string `json:"iptablesBackend,omitempty"`
	// ChainInsertMode must be Insert: our rules in the kernel's own chains come before those of others.
	ChainInsertMode string `json:"chainInsertMode,omitempty"`
	// IptablesRefreshInterval is the period in which the rules are read again [180s].
	IptablesRefreshInterval *metav1.Duration `json:"iptablesRefreshInterval,omitempty"`
	// IpsetsRefreshInterval is the period in which the sets are read again [90s].
	IpsetsRefreshInterval *metav1.Duration `json:"ipsetsRefreshInterval,omitempty"`
	// MaxIpsetSize is the most members that a set can have [1048576].
	MaxIpsetSize int `json:"maxIpsetSize,omitempty"`
	// IptablesMarkMask must be 0xffff0000, the bits of a packet's mark that are ours.
	IptablesMarkMask *uint32 `json:"iptablesMarkMask,omitempty"`
}

// FelixPolicy says what becomes of packets where no policy does, and of those that policies decide.
type FelixPolicy struct {
	// DefaultEndpointToHostAction is what becomes of packets from pods to their own host that policies allow: Drop,
	// Accept, or Return to the host's own rules. Calico's default is Drop [Return].
	DefaultEndpointToHostAction string `json:"defaultEndpointToHostAction,omitempty"`
	// IptablesFilterAllowAction and IptablesMangleAllowAction must be Accept: packets that policies allow go their
	// way.
	IptablesFilterAllowAction string `json:"iptablesFilterAllowAction,omitempty"`
	IptablesMangleAllowAction string `json:"iptablesMangleAllowAction,omitempty"`
	// IptablesFilterDenyAction is what becomes of packets that policies deny: Drop, or Reject, which tells the
	// sender [Drop].
	IptablesFilterDenyAction string `json:"iptablesFilterDenyAction,omitempty"`
	// LogPrefix begins what rules with the action Log write to the kernel's log, before a colon [calico-packet].
	LogPrefix string `json:"logPrefix,omitempty"`
	// ServiceLoopPrevention is what becomes of packets to addresses in ServiceCIDRs that nothing has made those of an
	// endpoint: Drop, Reject, which tells the sender, or Disabled, which lets them go in circles [Drop].
	ServiceLoopPrevention string `json:"serviceLoopPrevention,omitempty"`
	// ServiceCIDRs are the ranges of services' addresses: cluster IPs, external IPs and those of load balancers. Calico
	// takes them from what its BGPConfiguration advertises.
	ServiceCIDRs []string `json:"serviceCIDRs,omitempty"`
	// WorkloadSourceSpoofing must be Disabled: pods send from their own addresses alone.
	WorkloadSourceSpoofing string `json:"workloadSourceSpoofing,omitempty"`
	// FailsafeInboundHostPorts and FailsafeOutboundHostPorts are what host endpoints let through whatever policies
	// say; an empty list is nothing. Unset is Calico's: inbound TCP 22, 179, 2379, 2380, 5473, 6443, 6666, 6667 and
	// UDP 68; outbound TCP 179, 2379, 2380, 5473, 6443, 6666, 6667 and UDP 53, 67.
	FailsafeInboundHostPorts  *[]ProtoPort `json:"failsafeInboundHostPorts,omitempty"`
	FailsafeOutboundHostPorts *[]ProtoPort `json:"failsafeOutboundHostPorts,omitempty"`
}

// ProtoPort is a port of a protocol, at addresses of a net.
type ProtoPort struct {
	// Protocol is TCP, UDP or SCTP [TCP].
	Protocol Protocol `json:"protocol,omitempty"`
	Port     uint16   `json:"port"`
	// Net is an address or CIDR of the other end; empty is any of both families.
	Net string `json:"net,omitempty"`
}

// FelixFixed is what Calico writes into an object of its own making. Each must be unset or what is said here.
type FelixFixed struct {
	// LogSeverityScreen must be Info; the agent's flags say how much it logs.
	LogSeverityScreen string `json:"logSeverityScreen,omitempty"`
	// ReportingInterval must be 0s: there is no status file.
	ReportingInterval *metav1.Duration `json:"reportingInterval,omitempty"`
	// FloatingIPs must be Disabled.
	FloatingIPs string `json:"floatingIPs,omitempty"`
	// IPIPEnabled, VXLANEnabled and WireguardEnabled must be false until tunnels are supported.
	IPIPEnabled      bool `json:"ipipEnabled,omitempty"`
	VXLANEnabled     bool `json:"vxlanEnabled,omitempty"`
	WireguardEnabled bool `json:"wireguardEnabled,omitempty"`
	// BPFEnabled must be false; the BPF settings then say nothing: BPFLogLevel must be empty or Off,
	// BPFConnectTimeLoadBalancing TCP and BPFHostNetworkedNATWithoutCTLB Enabled.
	BPFEnabled                     bool   `json:"bpfEnabled,omitempty"`
	BPFLogLevel                    string `json:"bpfLogLevel,omitempty"`
	BPFConnectTimeLoadBalancing    string `json:"bpfConnectTimeLoadBalancing,omitempty"`
	BPFHostNetworkedNATWithoutCTLB string `json:"bpfHostNetworkedNATWithoutCTLB,omitempty"`
}
