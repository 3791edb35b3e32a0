// SPDX-License-Identifier: Apache-2.0

// Package api is the user's vocabulary as plain Go values: the projectcalico.org/v3 kinds that
// korat supports, JSON-compatible with Calico's, and Kubernetes' own kinds of network policy, with
// defaulting in default.go, validation in validate.go, strict decoding in decode.go, and Snapshot,
// the immutable picture of all of them.
//
// A field or kind that korat does not support yet has no Go field here, so that strict decoding
// refuses it by name. The package touches no kernel, no datastore and no clock.
//
// Open kinds.go first: it lists every kind with its scope and names.
// +kubebuilder:object:generate=true
package api
