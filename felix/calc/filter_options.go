// SPDX-License-Identifier: Apache-2.0

package calc

import (
	"net/netip"
	"reflect"

	"korat/api"
	"korat/policy"
	"korat/policy/compile"
)

// Families tells which families the kernel has; rules are made for no other.
func (f *Filter) Families(families []api.Family) { f.configure(f.options, families) }

// configured takes over FelixConfiguration.
func (f *Filter) configured(snap api.Snapshot) {
	spec := &api.FelixConfigurationSpec{}
	if cfg, ok := snap.FelixConfigurations.Get(api.DefaultName); ok {
		spec = &cfg.Spec
		f.note(cfg.Key(), api.Fault(cfg))
	}
	o := optionsOf(spec, f.options.Families)
	o.Groups, o.Pools = f.options.Groups, f.options.Pools
	f.configure(o, o.Families)
}

// pools takes over the IPPools.
func (f *Filter) pools(snap api.Snapshot) {
	o := f.options
	o.Pools = policy.Pools(snap)
	f.configure(o, o.Families)
}

func (f *Filter) configure(o compile.Options, families []api.Family) {
	o.Families = families
	if !reflect.DeepEqual(o, f.options) {
		f.options = o
		f.compiler.SetOptions(o)
	}
}

// optionsOf gives what FelixConfiguration says, with the defaults of what it leaves out.
func optionsOf(spec *api.FelixConfigurationSpec, families []api.Family) compile.Options {
	filled := &api.FelixConfiguration{Spec: *spec.DeepCopy()}
	filled.Name = api.DefaultName
	api.Default(filled)
	s := &filled.Spec
	o := compile.Options{Families: families, Reject: s.IptablesFilterDenyAction == "Reject", LogPrefix: s.LogPrefix}
	switch s.DefaultEndpointToHostAction {
	case "Drop":
		o.ToHost = compile.ToHostDrop
	case "Accept":
		o.ToHost = compile.ToHostAccept
	}
	if s.ServiceLoopPrevention != api.FelixDisabled {
		o.ServiceCIDRs, o.RejectLoops = prefixes(s.ServiceCIDRs), s.ServiceLoopPrevention == api.FelixReject
	}
	o.FailsafeIn, o.FailsafeOut = failsafes(s.FailsafeInboundHostPorts), failsafes(s.FailsafeOutboundHostPorts)
	return o
}

// prefixes leaves out what nobody understands: it was never validated.
func prefixes(cidrs []string) []netip.Prefix {
	var all []netip.Prefix
	for _, cidr := range cidrs {
		if p, err := netip.ParsePrefix(cidr); err == nil && p.Bits() > 0 && !p.Addr().Is4In6() {
			all = append(all, p.Masked())
		}
	}
	return all
}

func failsafes(ports *[]api.ProtoPort) []compile.Failsafe {
	if ports == nil {
		return nil
	}
	var all []compile.Failsafe
	for _, p := range *ports {
		f := compile.Failsafe{Protocol: policy.Protocol(p.Protocol.Number()), Port: p.Port}
		if p.Net != "" {
			prefix, err := netip.ParsePrefix(p.Net)
			if addr, notPrefix := netip.ParseAddr(p.Net); err != nil && notPrefix == nil {
				prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
			}
			if err != nil {
				continue // it was never validated: what nobody understands opens nothing
			}
			f.Net = prefix
		}
		all = append(all, f)
	}
	return all
}
