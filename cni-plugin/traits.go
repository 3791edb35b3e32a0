// SPDX-License-Identifier: Apache-2.0

package cniplugin

import (
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"korat/felix/endpoint"
)

// The syntax of Kubernetes' labels, and of the names of ports (RFC 6335, section 5.1, in lower case).
const (
	labelName  = `[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?`
	labelValue = `^(` + labelName + `)?$`
	portName   = `^[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?$`
)

// ownedPrefixes begin the labels that say where a pod belongs, itself and by its namespace and service account.
func ownedPrefixes() []string { return []string{"projectcalico.org/", "pcns.", "pcsa."} }

// readLabels reads args.cni.labels. (CNI CONVENTIONS.md, "labels")
func readLabels(c *Config, raw json.RawMessage) error {
	var pairs []struct{ Key, Value string }
	if err := decode(raw, &pairs); err != nil {
		return err
	}
	labels := map[string]string{}
	for i, p := range pairs {
		where := "[" + strconv.Itoa(i) + "]"
		_, twice := labels[p.Key]
		switch {
		case !isLabelKey(p.Key):
			return at(where, invalid("key %s: want letters, digits, '-', '_' and '.', after an optional DNS name and '/'", quote(p.Key)))
		case slices.ContainsFunc(ownedPrefixes(), func(prefix string) bool { return strings.HasPrefix(p.Key, prefix) }):
			return at(where, invalid("key %s: korat sets it itself: remove it", quote(p.Key)))
		case !regexp.MustCompile(labelValue).MatchString(p.Value):
			return at(where, invalid("value %s: want at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit", quote(p.Value)))
		case twice:
			return at(where, invalid("key %s is given twice: remove one", quote(p.Key)))
		}
		labels[p.Key] = p.Value
	}
	c.Asked.Traits.Labels = labels
	return nil
}

func isLabelKey(key string) bool {
	domain, name, found := strings.Cut(key, "/")
	if !found {
		name = key
	}
	return regexp.MustCompile(`^`+labelName+`$`).MatchString(name) && (!found || badDNSName(domain, maxName) == "")
}

// readPorts reads args.cni.ports, which is korat's own: the pod's named ports, that policies may name.
func readPorts(c *Config, raw json.RawMessage) error {
	var ports []endpoint.Port
	if err := decode(raw, &ports); err != nil {
		return err
	}
	for i := range ports {
		p := &ports[i]
		where := "[" + strconv.Itoa(i) + "]"
		if p.Protocol == "" {
			p.Protocol = "TCP"
		}
		p.Protocol = strings.ToUpper(p.Protocol)
		switch {
		case !regexp.MustCompile(portName).MatchString(p.Name) || !strings.ContainsFunc(p.Name, unicode.IsLetter):
			return at(where, invalid("name %s: want at most 15 lower-case letters, digits and inner dashes, and a letter among them", quote(p.Name)))
		case !slices.Contains([]string{"TCP", "UDP", "SCTP"}, p.Protocol):
			return at(where, invalid("protocol %s: want TCP, UDP or SCTP", quote(p.Protocol)))
		case p.Port == 0:
			return at(where, invalid("port 0: want 1 to 65535"))
		case slices.Contains(ports[:i], *p):
			return at(where, invalid("%s port %d has the name %s twice: remove one", p.Protocol, p.Port, quote(p.Name)))
		}
	}
	c.Asked.Traits.Ports = ports
	return nil
}
