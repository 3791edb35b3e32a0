// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// maxAlias is the longest interface alias that Linux takes. (IFALIASZ without the final zero)
const maxAlias = 255

// aliasOwner is an alias's first word.
const aliasOwner = "korat"

// Alias says whose a host interface is, so that an agent without memory, or a person with
// `ip link`, can tell.
type Alias struct {
	ID
	Namespace string
	Pod       string
	Addresses []netip.Addr
}

// FormatAlias gives "korat <namespace>/<pod> <container>/<interface> <address,…>". What is longer than an
// alias may be has its pod, then its namespace, then its container shortened to "<beginning>~<hash>".
func FormatAlias(a Alias) string {
	parts := []*string{&a.Pod, &a.Namespace, &a.ContainerID}
	for _, part := range parts {
		excess := len(joinAlias(a)) - maxAlias
		if excess <= 0 {
			break
		}
		*part = shorten(*part, len(*part)-excess)
	}
	return joinAlias(a)
}

func joinAlias(a Alias) string {
	addrs := make([]string, len(a.Addresses))
	for i, addr := range a.Addresses {
		addrs[i] = addr.String()
	}
	return strings.Join([]string{aliasOwner, a.Namespace + "/" + a.Pod, a.ID.String(), strings.Join(addrs, ",")}, " ")
}

// shortMark stands between the beginning and the hash of what was shortened. It occurs in no name of
// Kubernetes' and in no container ID.
const shortMark = "~"

const (
	shortHash = 10
	shortHead = 4
)

func shorten(s string, length int) string {
	head := max(length-len(shortMark)-shortHash, shortHead)
	if head+len(shortMark)+shortHash >= len(s) {
		return s
	}
	return s[:head] + shortMark + hashOf(s)
}

func hashOf(s string) string {
	sum := sha1.Sum([]byte(s))
	return hex.EncodeToString(sum[:])[:shortHash]
}

var errNotKorats = errors.New("not korat's")

// ParseAlias reads what FormatAlias wrote. Shortened names stay shortened: compare them with Is and Of.
func ParseAlias(s string) (Alias, error) {
	words := strings.Split(s, " ")
	if len(words) != 4 || words[0] != aliasOwner {
		return Alias{}, fmt.Errorf("alias %q: %w", s, errNotKorats)
	}
	namespace, pod, okPod := strings.Cut(words[1], "/")
	container, ifName, okID := strings.Cut(words[2], "/")
	if !okPod || !okID || namespace == "" || pod == "" || container == "" || ifName == "" {
		return Alias{}, fmt.Errorf("alias %q: want %q: %w", s, "korat <namespace>/<pod> <container>/<interface> <address,…>", errNotKorats)
	}
	a := Alias{ID: ID{ContainerID: container, IfName: ifName}, Namespace: namespace, Pod: pod}
	if words[3] == "" {
		return a, nil
	}
	for text := range strings.SplitSeq(words[3], ",") {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return Alias{}, fmt.Errorf("alias %q: %w", s, err)
		}
		a.Addresses = append(a.Addresses, addr)
	}
	return a, nil
}

// Shortened says whether the alias lacks a part of a name.
func (a Alias) Shortened() bool {
	return strings.Contains(a.ContainerID, shortMark) || strings.Contains(a.Namespace, shortMark) || strings.Contains(a.Pod, shortMark)
}

// Is says whether the alias is that of the attachment.
func (a Alias) Is(id ID) bool {
	return a.IfName == id.IfName && same(a.ContainerID, id.ContainerID)
}

// Of says whether the alias is that of an interface of the pod.
func (a Alias) Of(namespace, pod string) bool {
	return same(a.Namespace, namespace) && same(a.Pod, pod)
}

// same compares a name from an alias, shortened perhaps, with a whole one.
func same(have, want string) bool {
	head, hash, short := strings.Cut(have, shortMark)
	if !short {
		return have == want
	}
	return strings.HasPrefix(want, head) && hash == hashOf(want)
}
