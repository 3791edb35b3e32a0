// SPDX-License-Identifier: Apache-2.0

package cniplugin

import (
	"bytes"
	"fmt"
	"net"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"korat/cni-plugin/podnet"
	"korat/cni-plugin/socket"
	"korat/felix/endpoint"
)

// encodeResult says what was attached, in the configuration's version.
func encodeResult(conf Config, ep endpoint.Endpoint) ([]byte, error) {
	result, err := resultOf(conf, ep)
	if err != nil {
		return nil, err
	}
	versioned, err := result.GetAsVersion(conf.CNIVersion)
	if err != nil {
		return nil, fmt.Errorf("give the result in version %s: %w", conf.CNIVersion, err)
	}
	var b bytes.Buffer
	if err := versioned.PrintTo(&b); err != nil {
		return nil, fmt.Errorf("encode the result: %w", err)
	}
	return b.Bytes(), nil
}

// resultOf gives the result, added to that of a plugin that came before.
func resultOf(conf Config, ep endpoint.Endpoint) (*current.Result, error) {
	r := &current.Result{}
	if conf.PrevResult != nil {
		var err error
		if r, err = current.NewResultFromResult(conf.PrevResult); err != nil {
			return nil, types.NewError(socket.CodeDecodingFailure, "prevResult: "+err.Error(), "")
		}
	}
	r.CNIVersion = current.ImplementedSpecVersion
	host := &current.Interface{Name: ep.Interface, Mac: podnet.HostMAC}
	pod := &current.Interface{Name: ep.IfName, Mac: ep.MAC, Sandbox: ep.NetNS}
	if conf.CNIVersion == "1.1.0" { // the first to have it
		host.Mtu, pod.Mtu = ep.MTU, ep.MTU
	}
	r.Interfaces = append(r.Interfaces, host, pod)
	for _, addr := range ep.Addresses {
		gateway := net.IP(endpoint.GatewayFor(addr).AsSlice())
		r.IPs = append(r.IPs, &current.IPConfig{
			Interface: current.Int(len(r.Interfaces) - 1),
			Address:   net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(addr.BitLen(), addr.BitLen())},
			Gateway:   gateway,
		})
		r.Routes = append(r.Routes, &types.Route{
			Dst: net.IPNet{IP: make(net.IP, addr.BitLen()/8), Mask: net.CIDRMask(0, addr.BitLen())},
			GW:  gateway,
		})
	}
	if !conf.DNS.IsEmpty() {
		r.DNS = conf.DNS
	}
	return r, nil
}
