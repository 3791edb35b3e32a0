// SPDX-License-Identifier: Apache-2.0

package api

import (
	"crypto/sha1"
	"encoding/hex"
	"net/netip"
	"strings"
)

// maxNameLength is the longest name that a Kubernetes object may have (a DNS-1123 subdomain).
const maxNameLength = 253

// BlockName gives the IPAMBlock name of a block: "172-17-8-0-24", "fd00--8-0-122".
func BlockName(block netip.Prefix) string {
	return strings.NewReplacer(".", "-", ":", "-", "/", "-").Replace(block.String())
}

// AffinityName gives the BlockAffinity name of a node's claim on a block: "node1-172-17-8-0-24".
func AffinityName(node string, block netip.Prefix) string {
	return objectName(node + "-" + BlockName(block))
}

// WorkloadEndpointName gives the name of a pod's interface: the parts joined with a dash, after each
// dash inside a part is doubled, so that different parts never give the same name.
func WorkloadEndpointName(node, orchestrator, pod, endpoint string) string {
	parts := []string{node, orchestrator, pod, endpoint}
	for i, part := range parts {
		parts[i] = strings.ReplaceAll(part, "-", "--")
	}
	return objectName(strings.Join(parts, "-"))
}

// PodName gives the pod that a WorkloadEndpoint is of, "namespace/pod", with the name of the interface in it if that is
// not eth0. An object that has been cut short to what policies ask for says it in its own name.
func PodName(w *WorkloadEndpoint) string {
	pod, iface := w.Spec.Pod, w.Spec.Endpoint
	if parts := nameParts(w.Name); pod == "" && len(parts) == 4 {
		pod, iface = parts[2], parts[3]
	}
	switch {
	case pod == "":
		return w.Namespace + "/" + w.Name
	case iface != "" && iface != "eth0":
		return w.Namespace + "/" + pod + "/" + iface
	}
	return w.Namespace + "/" + pod
}

// nameParts takes a WorkloadEndpoint's name apart: a dash separates, and two are one of a part's own.
func nameParts(name string) []string {
	const dash = "\x00"
	parts := strings.Split(strings.ReplaceAll(name, "--", dash), "-")
	for i, part := range parts {
		parts[i] = strings.ReplaceAll(part, dash, "-")
	}
	return parts
}

// objectName returns name if it can name an object. Otherwise (CNI container IDs may hold capitals
// and underscores, and node names may be as long as a whole name) it gives a readable
// approximation that ends in a hash, so that it stays unique.
func objectName(name string) string {
	if isSubdomain(name) {
		return name
	}
	sum := sha1.Sum([]byte(name))
	hash := hex.EncodeToString(sum[:8])
	clean := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		default:
			return '-'
		}
	}, name)
	clean = strings.TrimLeft(clean, "-")
	return strings.TrimLeft(clean[:min(len(clean), maxNameLength-len(hash)-1)]+"-"+hash, "-")
}

// isSubdomain says whether s is a DNS-1123 subdomain: labels of lower-case letters, digits and
// inner dashes, joined by dots, of at most 253 bytes in all.
func isSubdomain(s string) bool {
	if len(s) == 0 || len(s) > maxNameLength {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if !isDashedWord(label) {
			return false
		}
	}
	return true
}

// isLabel says whether s is a DNS-1123 label, as namespaces are: at most 63 bytes, no dots.
func isLabel(s string) bool { return len(s) <= 63 && isDashedWord(s) }

func isDashedWord(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return s != "" && s[0] != '-' && s[len(s)-1] != '-'
}
