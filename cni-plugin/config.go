// SPDX-License-Identifier: Apache-2.0

package cniplugin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"korat/cni-plugin/socket"
	"korat/felix/endpoint"
)

// Config is the network configuration.
type Config struct {
	CNIVersion string
	// Network is the network's name.
	Network string
	// DNS is handed through to the result.
	DNS types.DNS
	// PrevResult is nil if there is none.
	PrevResult types.Result
	// MTU of the interfaces; 0 leaves it to the agent.
	MTU int
	// NodeName must be the agent's, if set.
	NodeName string
	// Socket is the agent's.
	Socket string
	// Timeout bounds the waiting for the agent.
	Timeout  time.Duration
	LogLevel slog.Level
	// IPAM says which addresses the pod gets.
	IPAM IPAM
	// Forwarding says whether the pod may forward packets.
	Forwarding bool
	// Asked is what the runtime asks for this pod.
	Asked Asked
}

// Asked are capability arguments, or args.
type Asked struct {
	// Addresses are fixed ones, at most one of each family.
	Addresses []netip.Addr
	// MAC of the pod's side; empty leaves it to the plugin.
	MAC string
	// Traits are what policies know the pod by.
	Traits endpoint.Traits
}

// The defaults of what the configuration leaves out.
const (
	defaultTimeout  = 10 * time.Second
	maxTimeout      = 10 * time.Minute
	defaultLogLevel = slog.LevelWarn
	// minMTU is IPv4's (RFC 791, section 3.2), and minMTUIPv6 IPv6's (RFC 8200, section 5).
	minMTU     = 68
	minMTUIPv6 = 1280
	maxMTU     = 65535
)

// fault is what is wrong with one value, with its CNI code.
type fault struct {
	code uint
	// key is the value's, with those of the objects around it: "ipam.type".
	key    string
	reason string
}

func (f fault) Error() string { return f.key + ": " + f.reason }

func invalid(format string, args ...any) error {
	return fault{code: socket.CodeInvalidConfig, reason: fmt.Sprintf(format, args...)}
}

func unsupported(format string, args ...any) error {
	return fault{code: socket.CodeUnsupportedField, reason: fmt.Sprintf(format, args...)}
}

// at says where a fault is: below key.
func at(key string, err error) error {
	f := fault{code: socket.CodeInternal, reason: err.Error()}
	errors.As(err, &f)
	if f.key != "" {
		key += "." + f.key
	}
	f.key = key
	return f
}

// field reads one key's value into the configuration.
type field func(c *Config, raw json.RawMessage) error

// fields are the keys that korat knows; every other is refused, but for "cni.dev/…".
func fields() map[string]field {
	return map[string]field{
		"cniVersion":         func(c *Config, raw json.RawMessage) error { return decode(raw, &c.CNIVersion) },
		"name":               readName,
		"dns":                func(c *Config, raw json.RawMessage) error { return decode(raw, &c.DNS) },
		"prevResult":         func(*Config, json.RawMessage) error { return nil }, // see readPrevResult
		"ipMasq":             readIPMasq,
		"mtu":                readMTU,
		"nodename":           readNodeName,
		"socket":             readSocket,
		"timeout":            readTimeout,
		"log_level":          readLogLevel,
		"ipam":               func(c *Config, raw json.RawMessage) error { return readObject(c, raw, ipamFields()) },
		"container_settings": func(c *Config, raw json.RawMessage) error { return readObject(c, raw, containerFields()) },

		// The runtime's and the specification's own. (CNI spec, section 1 and CONVENTIONS.md)
		"cniVersions": skip, "type": skip, "capabilities": skip,
		"args":          func(c *Config, raw json.RawMessage) error { return readSome(c, raw, argsFields()) },
		"runtimeConfig": func(c *Config, raw json.RawMessage) error { return readSome(c, raw, runtimeFields()) },
		"disableCheck":  skip, "disableGC": skip, "loadOnlyInlinedPlugins": skip,
	}
}

func skip(*Config, json.RawMessage) error { return nil }

func ipamFields() map[string]field {
	return map[string]field{
		"type":        readIPAMType,
		"ipv4_pools":  func(c *Config, raw json.RawMessage) error { return c.IPAM.IPv4.readPools(raw, 4) },
		"ipv6_pools":  func(c *Config, raw json.RawMessage) error { return c.IPAM.IPv6.readPools(raw, 6) },
		"assign_ipv4": func(c *Config, raw json.RawMessage) error { return c.IPAM.IPv4.readAssign(raw) },
		"assign_ipv6": func(c *Config, raw json.RawMessage) error { return c.IPAM.IPv6.readAssign(raw) },
	}
}

func containerFields() map[string]field {
	return map[string]field{
		"allow_ip_forwarding": func(c *Config, raw json.RawMessage) error { return decode(raw, &c.Forwarding) },
	}
}

func argsFields() map[string]field {
	return map[string]field{"cni": func(c *Config, raw json.RawMessage) error {
		return readSome(c, raw, map[string]field{"ips": readIPs, "labels": readLabels, "ports": readPorts})
	}}
}

// runtimeFields are the capabilities that are about addresses; others are other plugins'. The runtime
// gives them to a plugin that declares them.
func runtimeFields() map[string]field {
	return map[string]field{
		"ips": readIPs,
		"mac": readMAC,
		"ipRanges": func(_ *Config, raw json.RawMessage) error {
			return unsupported("%s is not supported: addresses come from korat's IP pools: remove the capability", shown(raw))
		},
	}
}

// ParseConfig reads a network configuration. With an error, the returned Config has what could be
// read and defaults for the rest: enough for DEL, which must work whatever became of the configuration.
func ParseConfig(data []byte) (Config, *types.Error) {
	c := Config{
		Socket: socket.DefaultPath, Timeout: defaultTimeout, LogLevel: defaultLogLevel,
		IPAM: IPAM{IPv4: Family{Assign: true}},
	}
	object, err := splitObject(data)
	if err != nil {
		return c, types.NewError(socket.CodeDecodingFailure, "network configuration: "+err.Error(), "")
	}
	failed := readFields(&c, object, fields())
	if c.Network == "" && failed == nil {
		failed = at("name", invalid("it is missing"))
	}
	if failed == nil {
		failed = c.checkFamilies()
	}
	if err := readPrevResult(&c, object["prevResult"]); failed == nil {
		failed = err
	}
	if failed == nil {
		return c, nil
	}
	var f fault
	errors.As(failed, &f)
	return c, types.NewError(f.code, fmt.Sprintf("network configuration %s: %s", quote(c.Network), failed.Error()), "")
}

func (c Config) checkFamilies() error {
	if err := c.IPAM.check(c.MTU); err != nil {
		return err
	}
	for _, addr := range c.Asked.Addresses {
		if reason := c.IPAM.refusal(addr); reason != "" {
			return at("runtimeConfig.ips", invalid("%s", reason))
		}
	}
	return nil
}

// splitObject splits a JSON object into its values, by exact key: encoding/json alone would also take
// "MTU" for "mtu".
func splitObject(data []byte) (map[string]json.RawMessage, error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(data, &object); err != nil {
		return nil, err
	}
	if object == nil {
		return nil, errors.New("want an object")
	}
	return object, nil
}

// readFields reads all it can and gives the first error, by key.
func readFields(c *Config, object map[string]json.RawMessage, known map[string]field) error {
	var first error
	for _, key := range slices.Sorted(maps.Keys(object)) {
		raw := object[key]
		err := unsupported("%s is not supported: remove it", shown(raw))
		if read, ok := known[key]; ok {
			err = nil
			if !bytes.Equal(raw, []byte("null")) {
				err = read(c, raw)
			}
		} else if strings.HasPrefix(key, "cni.dev/") {
			err = nil
		}
		if err != nil && first == nil {
			first = at(key, err)
		}
	}
	return first
}

// readSome reads the known keys of an object in which others have theirs.
func readSome(c *Config, raw json.RawMessage, known map[string]field) error {
	object, err := splitObject(raw)
	if err != nil {
		return invalid("%s: want an object", shown(raw))
	}
	maps.DeleteFunc(object, func(key string, _ json.RawMessage) bool { return known[key] == nil })
	return readFields(c, object, known)
}

func readObject(c *Config, raw json.RawMessage, known map[string]field) error {
	object, err := splitObject(raw)
	if err != nil {
		return invalid("%s: want an object", shown(raw))
	}
	return readFields(c, object, known)
}

// shown is a value as an error shows it. (The specification wants key and value of what is unsupported.)
func shown(raw json.RawMessage) string {
	const longest = 200
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return quote(string(raw))
	}
	if b.Len() > longest {
		return strings.ToValidUTF8(b.String()[:longest], "") + "…"
	}
	return b.String()
}

func decode(raw json.RawMessage, to any) error {
	if err := json.Unmarshal(raw, to); err != nil {
		return invalid("%s: %v", shown(raw), err)
	}
	return nil
}
