// SPDX-License-Identifier: Apache-2.0

package show

import (
	"strconv"
	"strings"

	"korat/api"
)

// sliceColumns are those of EndpointSlices, as kubectl has them, with the service.
func sliceColumns() (narrow, more []column) {
	narrow = []column{
		of("SERVICE", func(o *api.EndpointSlice) string { return o.Labels[api.LabelServiceName] }),
		of("ADDRESSTYPE", func(o *api.EndpointSlice) string { return o.AddressType }),
		of("PORTS", func(o *api.EndpointSlice) string {
			var all []string
			for _, p := range o.Ports {
				if p.Port != nil && p.Protocol != nil {
					all = append(all, strconv.Itoa(int(*p.Port))+"/"+string(*p.Protocol))
				}
			}
			return strings.Join(all, ",")
		}),
		of("ENDPOINTS", func(o *api.EndpointSlice) string {
			var all []string
			for _, e := range o.Endpoints {
				all = append(all, e.Addresses...)
			}
			return shortened(strings.Join(all, ","))
		}),
	}
	return narrow, nil
}
