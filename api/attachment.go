// SPDX-License-Identifier: Apache-2.0

package api

// SameAttachment says whether a stored WorkloadEndpoint is of the same ADD as the one that the node's own record says.
// A container's ID may be used again, as people do who call the plugin by hand; the interface then has another hardware
// address, which is random. The record lacks it until the interface is made, and if it was recovered.
func (w *WorkloadEndpoint) SameAttachment(stored *WorkloadEndpoint) bool {
	return w.Spec.ContainerID == stored.Spec.ContainerID && (w.Spec.MAC == stored.Spec.MAC || w.Spec.MAC == "")
}
