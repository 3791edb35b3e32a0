// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"

	"korat/api"
	"korat/policy"
	"korat/policy/chain"
)

// The marks: bits of 0xffff0000, which are ours.
const (
	acceptMark = 0x10000
	passMark   = 0x20000
	bothMarks  = acceptMark | passMark
)

// RevokedMark, of the bits of RevokedMask, is the mark of a connection in the kernel's tracking that policies do not
// allow any more: none of its packets passes, in neither direction. It takes all of the bits that are ours, so that
// nobody else's mark is likely to be it.
const (
	RevokedMark = 0x6b6f0000
	RevokedMask = 0xffff0000
)

// ReportGroup is the NFLOG group of all reports.
const ReportGroup = 2

// The chains with fixed names.
const (
	allowChain    = "cali-allow"
	passChain     = "cali-pass"
	fromWorkloads = "cali-from-wl-dispatch"
	toWorkloads   = "cali-to-wl-dispatch"
	// fromGroup and toGroup begin the names of those that tell link groups apart.
	fromGroup = "cali-from-group"
	toGroup   = "cali-to-group"
	// earlyChain is of everything that comes in.
	earlyChain = "cali-PREROUTING"
	// workloadToHost is of what pods send to their own node, serviceLoops of what is for services.
	workloadToHost = "cali-wl-to-host"
	serviceLoops   = "cali-cidr-block"
	// natOutgoing is of what pods send out of all pools.
	natOutgoing = "cali-nat-outgoing"
	// knownConnections is of packets of connections that there are already, and of those that belong to none.
	knownConnections = "cali-tracked"
	fromHost         = "cali-from-host-endpoint"
	toHost           = "cali-to-host-endpoint"
	fromForward      = "cali-from-hep-forward"
	toForward        = "cali-to-hep-forward"
)

// maxSetName is IPSET_MAXNAMELEN less the terminating zero.
const maxSetName = 31

// hash gives n characters that stand for the parts.
func hash(n int, parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		h.Write(strconv.AppendInt(nil, int64(len(p)), 10))
		h.Write([]byte{':'})
		h.Write([]byte(p))
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))[:n]
}

// fit gives prefix and name if that may be a chain's name, and else prefix and a hash of the name.
func fit(prefix, name string, plain bool) string {
	if plain && len(prefix)+len(name) <= chain.MaxName {
		return prefix + name
	}
	return prefix + "_" + hash(chain.MaxName-len(prefix)-1, name)
}

// rulesName names the chain of a policy's or profile's rules. An underscore begins a hash, so that a name that has
// one becomes one.
func rulesName(id policy.ID, d api.PolicyType) string {
	prefix := "cali-p" + map[api.PolicyType]string{api.Ingress: "i", api.Egress: "o"}[d]
	if id.Kind == policy.KindProfile {
		prefix = "cali-pr" + map[api.PolicyType]string{api.Ingress: "i", api.Egress: "o"}[d]
	}
	return fit(prefix+"-", id.String(), isPlain(id.Namespace) && isPlain(id.Name))
}

func isPlain(name string) bool {
	return !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '.'
	})
}

// setName names a set by what is in it. kind tells the sorts of content apart, as Calico's names do.
func setName(f api.Family, kind string, parts ...string) string {
	prefix := "cali40"
	if f == api.IPv6 {
		prefix = "cali60"
	}
	prefix += kind + ":"
	return prefix + hash(maxSetName-len(prefix), parts...)
}

// kindNames are the kinds as comments have them.
func kindName(k policy.Kind) string {
	return map[policy.Kind]string{
		policy.KindNetworkPolicy: "NetworkPolicy", policy.KindGlobal: "GlobalNetworkPolicy",
		policy.KindKubernetes: "Kubernetes NetworkPolicy", policy.KindCluster: "ClusterNetworkPolicy",
		policy.KindStagedNetworkPolicy: "StagedNetworkPolicy", policy.KindStagedGlobal: "StagedGlobalNetworkPolicy",
		policy.KindProfile: "Profile",
	}[k]
}

// title names a policy's or profile's direction for people, "NetworkPolicy shop/web ingress", unless the name of its chain does,
// which is a hash if it has an underscore.
func title(chainName string, id policy.ID, d api.PolicyType) string {
	if !strings.Contains(chainName, "_") {
		return ""
	}
	name := id.Name
	if id.Namespace != "" {
		name = id.Namespace + "/" + name
	}
	return kindName(id.Kind) + " " + name + " " + strings.ToLower(string(d))
}
