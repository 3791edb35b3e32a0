// SPDX-License-Identifier: Apache-2.0

package api

import "time"

func (c *checker) felixConfiguration(s *FelixConfigurationSpec) {
	c.duration("spec.routeRefreshInterval", s.RouteRefreshInterval, bounds{min: time.Second})
	c.duration("spec.interfaceRefreshInterval", s.InterfaceRefreshInterval, bounds{min: time.Second})
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
