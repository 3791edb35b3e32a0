// SPDX-License-Identifier: Apache-2.0

package endpoint

// Traits are what policies know a pod by, as its runtime says. People may add labels in the datastore.
type Traits struct {
	Labels map[string]string `json:"labels,omitempty"`
	// Ports are the pod's named ports.
	Ports []Port `json:"ports,omitempty"`
	// Lost says that they were said, and nobody remembers them: which policies are the pod's is not known.
	Lost bool `json:"lost,omitempty"`
}

// Port is a named port.
type Port struct {
	Name string `json:"name"`
	// Protocol is TCP, UDP or SCTP.
	Protocol string `json:"protocol"`
	Port     uint16 `json:"port"`
}
