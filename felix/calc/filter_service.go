// SPDX-License-Identifier: Apache-2.0

package calc

import (
	"slices"

	"korat/api"
	"korat/policy"
)

// services are the endpoints of services, which several slices have together.
type services struct {
	// bySlice has what each slice says, and parts the slices of each service.
	bySlice map[api.Key]slice
	parts   map[policy.Service]map[api.Key]struct{}
}

// slice is a part of what is behind a service.
type slice struct {
	policy.Service
	behind []policy.Member
}

func newServices() services {
	return services{bySlice: map[api.Key]slice{}, parts: map[policy.Service]map[api.Key]struct{}{}}
}

// endpointSlice tells of a slice. Its label may name another service than before.
func (f *Filter) endpointSlice(snap api.Snapshot, key api.Key) {
	s := &f.services
	if before, known := s.bySlice[key]; known {
		s.leave(key, before.Service)
		defer f.serve(before.Service) // twice, if it is the same one
	}
	o, exists := snap.EndpointSlices.Get(key.TableName())
	if !exists {
		f.doubts.slice(key, policy.Service{}, false)
		return
	}
	service, named := policy.ServiceOf(o)
	behind, err := policy.Behind(o)
	known := named || api.Hollow(o) // else it is nobody's: no rule can name it
	f.doubts.slice(key, service, known && policy.Missing(o, err))
	if known {
		f.note(key, err)
	}
	if !named {
		return
	}
	s.bySlice[key] = slice{service, behind}
	if s.parts[service] == nil {
		s.parts[service] = map[api.Key]struct{}{}
	}
	s.parts[service][key] = struct{}{}
	f.serve(service)
}

func (s *services) leave(key api.Key, from policy.Service) {
	delete(s.bySlice, key)
	if delete(s.parts[from], key); len(s.parts[from]) == 0 {
		delete(s.parts, from)
	}
}

// serve tells the compiler what is behind a service by now.
func (f *Filter) serve(service policy.Service) {
	var all []policy.Member
	for key := range f.services.parts[service] {
		all = append(all, f.services.bySlice[key].behind...)
	}
	slices.SortFunc(all, policy.Member.Compare)
	f.compiler.SetService(service, slices.Compact(all))
}
