// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"math"
	"time"
)

// maxLogPrefix is the longest prefix of the kernel's log (30 bytes with the final zero), less the ": " that follows.
const maxLogPrefix = 27

func (c *checker) felixConfiguration(s *FelixConfigurationSpec) {
	c.duration("spec.routeRefreshInterval", s.RouteRefreshInterval, bounds{min: time.Second})
	c.duration("spec.interfaceRefreshInterval", s.InterfaceRefreshInterval, bounds{min: time.Second})
	c.felixIptables(&s.FelixIptables)
	c.felixPolicy(&s.FelixPolicy)
	c.felixFixed(&s.FelixFixed)
}

func (c *checker) felixIptables(s *FelixIptables) {
	c.choice("spec.iptablesBackend", s.IptablesBackend, IptablesAuto, IptablesNFT, IptablesLegacy)
	c.oneOf("spec.chainInsertMode", s.ChainInsertMode, chainInsert)
	c.duration("spec.iptablesRefreshInterval", s.IptablesRefreshInterval, bounds{min: time.Second})
	c.duration("spec.ipsetsRefreshInterval", s.IpsetsRefreshInterval, bounds{min: time.Second})
	if s.MaxIpsetSize < 1 || s.MaxIpsetSize > math.MaxInt32 {
		c.fail("spec.maxIpsetSize", s.MaxIpsetSize, "must be 1..%d: the default is %d", math.MaxInt32, defaultMaxIpsetSize)
	}
	if s.IptablesMarkMask == nil || *s.IptablesMarkMask != iptablesMarkMask {
		value := ""
		if s.IptablesMarkMask != nil {
			value = fmt.Sprintf("%#x", *s.IptablesMarkMask)
		}
		c.fail("spec.iptablesMarkMask", value, "must be %#x: korat supports nothing else yet", uint32(iptablesMarkMask))
	}
}

func (c *checker) felixPolicy(s *FelixPolicy) {
	c.choice("spec.defaultEndpointToHostAction", s.DefaultEndpointToHostAction, FelixDrop, FelixReturn, FelixAccept)
	c.oneOf("spec.iptablesFilterAllowAction", s.IptablesFilterAllowAction, FelixAccept)
	c.oneOf("spec.iptablesMangleAllowAction", s.IptablesMangleAllowAction, FelixAccept)
	c.choice("spec.iptablesFilterDenyAction", s.IptablesFilterDenyAction, FelixDrop, FelixReject)
	c.choice("spec.serviceLoopPrevention", s.ServiceLoopPrevention, FelixDrop, FelixReject, FelixDisabled)
	c.serviceCIDRs("spec.serviceCIDRs", s.ServiceCIDRs)
	c.oneOf("spec.workloadSourceSpoofing", s.WorkloadSourceSpoofing, FelixDisabled)
	c.logPrefix("spec.logPrefix", s.LogPrefix)
	c.failsafes("spec.failsafeInboundHostPorts", s.FailsafeInboundHostPorts)
	c.failsafes("spec.failsafeOutboundHostPorts", s.FailsafeOutboundHostPorts)
}

func (c *checker) logPrefix(field, value string) {
	plain := isComment(value)
	for _, b := range []byte(value) {
		plain = plain && b != '%' // Calico would put a policy's name there
	}
	if value == "" || len(value) > maxLogPrefix || !plain {
		c.fail(field, value, `must be 1 to %d bytes of printable ASCII without ", \ and %%, in which korat puts no names`, maxLogPrefix)
	}
}

// serviceCIDRs checks ranges that packets are dropped for.
func (c *checker) serviceCIDRs(field string, cidrs []string) {
	for i, cidr := range cidrs {
		at := index(field, i)
		if p, ok := c.prefix(at, cidr); ok && p.Bits() == 0 {
			c.fail(at, cidr, "must not be every address: name the ranges that services have")
		}
		once(c, field, cidrs, i)
	}
}

func (c *checker) failsafes(field string, ports *[]ProtoPort) {
	if ports == nil {
		c.fail(field, "", "must be set; [] is no port at all")
		return
	}
	for i, p := range *ports {
		at := index(field, i)
		c.choice(at+".protocol", string(p.Protocol), string(ProtocolTCP), string(ProtocolUDP), string(ProtocolSCTP))
		if p.Port == 0 {
			c.fail(at+".port", p.Port, "must be 1..65535")
		}
		if p.Net != "" {
			c.net(at+".net", p.Net)
		}
	}
}

func (c *checker) felixFixed(s *FelixFixed) {
	c.unsetOr("spec.logSeverityScreen", s.LogSeverityScreen, logSeverityInfo)
	if s.ReportingInterval != nil && s.ReportingInterval.Duration != 0 {
		c.fail("spec.reportingInterval", s.ReportingInterval.Duration.String(), `must be "0s": korat writes no status files`)
	}
	c.unsetOr("spec.floatingIPs", s.FloatingIPs, "Disabled")
	c.off("spec.ipipEnabled", s.IPIPEnabled)
	c.off("spec.vxlanEnabled", s.VXLANEnabled)
	c.off("spec.wireguardEnabled", s.WireguardEnabled)
	c.off("spec.bpfEnabled", s.BPFEnabled)
	c.unsetOr("spec.bpfLogLevel", s.BPFLogLevel, "Off")
	c.unsetOr("spec.bpfConnectTimeLoadBalancing", s.BPFConnectTimeLoadBalancing, "TCP")
	c.unsetOr("spec.bpfHostNetworkedNATWithoutCTLB", s.BPFHostNetworkedNATWithoutCTLB, "Enabled")
}
