// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// FieldError says what is wrong with one field of one object.
//
// +kubebuilder:object:generate=false
type FieldError struct {
	Object Key
	// Field is the path in the manifest, e.g. "spec.blockSize".
	Field string
	// Value is what the field holds. One that is not set, or empty, is not named.
	Value any
	// Remedy says what it should hold.
	Remedy string
}

// Error gives "Kind/name: field: value: remedy".
func (e *FieldError) Error() string {
	value := fmt.Sprint(e.Value)
	if s, ok := e.Value.(string); ok {
		value = strconv.Quote(s)
	}
	if e.Value == nil || value == `""` {
		return fmt.Sprintf("%s: %s: %s", e.Object, e.Field, e.Remedy)
	}
	return fmt.Sprintf("%s: %s: %s: %s", e.Object, e.Field, value, e.Remedy)
}

// Validate checks one object by itself and joins a FieldError for each fault. The object must have
// been through Default.
func Validate(obj Object) error {
	info, ok := obj.Key().Kind.Info()
	if !ok {
		return fmt.Errorf("%s: kind is not supported by korat: use one of %s", obj.Key(), supportedKinds())
	}
	c := &checker{key: obj.Key()}
	c.metadata(obj, info)
	switch o := obj.(type) {
	case *IPPool:
		c.ipPool(&o.Spec)
	case *BGPConfiguration:
		c.bgpConfiguration(&o.Spec)
	case *BGPPeer:
		c.bgpPeer(&o.Spec)
	case *Node:
		c.node(&o.Spec)
	case *WorkloadEndpoint:
		c.workloadEndpoint(o)
	case *IPAMConfiguration:
		c.ipamConfiguration(&o.Spec)
	case *IPReservation:
		for i, cidr := range o.Spec.ReservedCIDRs {
			c.prefix(index("spec.reservedCIDRs", i), cidr)
		}
	case *BlockAffinity:
		c.blockAffinity(&o.Spec)
	case *IPAMBlock:
		c.ipamBlock(&o.Spec)
	case *FelixConfiguration:
		c.felixConfiguration(&o.Spec)
	case *KubernetesNetworkPolicy:
		c.kubernetesPolicy(&o.Spec)
	case *ClusterNetworkPolicy:
		c.clusterPolicy(&o.Spec)
	case *EndpointSlice:
		c.endpointSlice(o)
	case *ClusterInformation:
		// Every value of its fields is allowed.
	default:
		c.policyKind(obj)
	}
	return errors.Join(c.errs...)
}

// checker collects the faults of one object.
type checker struct {
	key  Key
	errs []error
}

func (c *checker) fail(field string, value any, remedy string, args ...any) {
	c.errs = append(c.errs, &FieldError{Object: c.key, Field: field, Value: value, Remedy: fmt.Sprintf(remedy, args...)})
}

func (c *checker) metadata(obj Object, info KindInfo) {
	name, namespace := obj.GetName(), obj.GetNamespace()
	switch {
	case info.Singleton && name != DefaultName:
		c.fail("metadata.name", name, "must be %q: korat supports no other %s", DefaultName, info.Kind)
	case !isSubdomain(name):
		c.fail("metadata.name", name, "must be a DNS-1123 subdomain: lower-case letters, digits, dashes and dots, beginning and ending with a letter or digit, at most %d bytes", maxNameLength)
	}
	switch {
	case info.Namespaced && !isLabel(namespace):
		c.fail("metadata.namespace", namespace, "must be a DNS-1123 label: lower-case letters, digits and inner dashes, at most 63 bytes")
	case !info.Namespaced && namespace != "":
		c.fail("metadata.namespace", namespace, "must be empty: %s is cluster-wide", info.Kind)
	}
	c.labels("metadata.labels", obj.GetLabels())
}

// oneOf checks that a field holds one of the supported values.
func (c *checker) oneOf(field, value string, supported ...string) {
	if !slices.Contains(supported, value) {
		c.fail(field, value, "must be %s: korat supports nothing else yet", strings.Join(supported, " or "))
	}
}

// unsetOr checks that a field is empty or holds one of the supported values.
func (c *checker) unsetOr(field, value string, supported ...string) {
	if value != "" {
		c.oneOf(field, value, supported...)
	}
}

// off checks that a switch is off.
func (c *checker) off(field string, value bool) {
	if value {
		c.fail(field, value, "must be false: korat supports nothing else yet")
	}
}

// prefix checks and returns a CIDR without host bits.
func (c *checker) prefix(field, value string) (p netip.Prefix, ok bool) {
	p, err := netip.ParsePrefix(value)
	switch {
	case err != nil:
		c.fail(field, value, `must be a CIDR such as "172.17.0.0/16" or "fd00:10:244::/48"`)
	case p.Addr().Is4In6():
		c.fail(field, value, "is IPv4-mapped (RFC 4291, section 2.5.5.2): write it as an IPv4 CIDR")
	case p != p.Masked():
		c.fail(field, value, "has host bits set: use %q", p.Masked())
	default:
		return p, true
	}
	return p, false
}

// host checks an address that one host can have.
func (c *checker) host(field, value string, addr netip.Addr) bool {
	switch {
	case addr.Is4In6():
		c.fail(field, value, "is an IPv4-mapped address (RFC 4291, section 2.5.5.2): use %q", addr.Unmap())
	case addr.Zone() != "" || addr.Is6() && addr.IsLinkLocalUnicast():
		c.fail(field, value, "must not be link-local nor have a zone, which mean nothing on another host: use an address such as %q", "fd00:192:168::100")
	case addr.IsUnspecified() || addr.IsMulticast() || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		c.fail(field, value, "must be the address of one host, not an unspecified, multicast or broadcast address")
	default:
		return true
	}
	return false
}

// onNode checks spec.node.
func (c *checker) onNode(name string) {
	if !isSubdomain(name) {
		c.fail("spec.node", name, "must be a node's name: a DNS-1123 subdomain of at most %d bytes", maxNameLength)
	}
}

// asTrans stands for a four-byte AS number where only two bytes fit; it belongs to nobody (RFC 6793).
const asTrans = 23456

func (c *checker) asNumber(field string, as ASNumber) {
	if as == 0 || as == asTrans {
		c.fail(field, as, "must be 1..4294967295 and not %d, which is reserved: use e.g. %d", asTrans, DefaultASNumber)
	}
}

// bounds limit a duration; whole says that the protocol counts in seconds.
type bounds struct {
	min, max time.Duration
	whole    bool
}

func (c *checker) duration(field string, d *metav1.Duration, b bounds) {
	switch {
	case d == nil:
		c.fail(field, "", "must be set, e.g. %q", b.min)
	case d.Duration < b.min || b.max != 0 && d.Duration > b.max:
		upTo := ""
		if b.max != 0 {
			upTo = fmt.Sprintf(" and at most %q", b.max)
		}
		c.fail(field, d.Duration.String(), "must be at least %q%s", b.min, upTo)
	case b.whole && d.Duration%time.Second != 0:
		c.fail(field, d.Duration.String(), "must be whole seconds, as BGP sends it: use %q", max(d.Round(time.Second), time.Second))
	}
}

// restartTime checks a graceful-restart time, which has twelve bits (RFC 4724, section 3).
func (c *checker) restartTime(field string, d *metav1.Duration) {
	c.duration(field, d, bounds{min: time.Second, max: 4095 * time.Second, whole: true})
}

// keepalive checks a keepalive interval: the hold time, three times as long, has sixteen bits (RFC 4271).
func (c *checker) keepalive(field string, d *metav1.Duration) {
	c.duration(field, d, bounds{min: time.Second, max: 21845 * time.Second, whole: true})
}

func index(field string, i int) string { return field + "[" + strconv.Itoa(i) + "]" }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
