// SPDX-License-Identifier: Apache-2.0

package cniplugin

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/utils"
	"github.com/containernetworking/cni/pkg/version"

	"korat/cni-plugin/podnet"
	"korat/cni-plugin/socket"
)

func readName(c *Config, raw json.RawMessage) error {
	if err := decode(raw, &c.Network); err != nil {
		return err
	}
	if utils.ValidateNetworkName(c.Network) != nil {
		return invalid("%s: want letters, digits, '_', '.' and '-', beginning with a letter or digit", quote(c.Network))
	}
	if len(c.Network) > maxName {
		return invalid("%s has %d characters: at most %d are allowed", quote(c.Network), len(c.Network), maxName)
	}
	return nil
}

func readIPMasq(_ *Config, raw json.RawMessage) error {
	var on bool
	if err := decode(raw, &on); err != nil {
		return err
	}
	if on {
		return unsupported("true is not supported: remove it")
	}
	return nil
}

func readMTU(c *Config, raw json.RawMessage) error {
	var mtu int
	if err := decode(raw, &mtu); err != nil {
		return err
	}
	if mtu != 0 && (mtu < minMTU || mtu > maxMTU) {
		return invalid("%d is out of range: want %d to %d, or 0 for the agent's choice", mtu, minMTU, maxMTU)
	}
	c.MTU = mtu
	return nil
}

func readNodeName(c *Config, raw json.RawMessage) error {
	var name string
	if err := decode(raw, &name); err != nil {
		return err
	}
	if reason := badDNSName(name, maxName); name != "" && reason != "" {
		return invalid("%s: %s", quote(name), reason)
	}
	c.NodeName = name
	return nil
}

func readSocket(c *Config, raw json.RawMessage) error {
	var path string
	if err := decode(raw, &path); err != nil {
		return err
	}
	if err := socket.CheckPath(path); err != nil {
		return invalid("%v", err)
	}
	c.Socket = path
	return nil
}

func readTimeout(c *Config, raw json.RawMessage) error {
	var seconds int
	if err := decode(raw, &seconds); err != nil {
		return err
	}
	longest := int(maxTimeout / time.Second)
	if seconds < 1 || seconds > longest {
		return invalid("%d is out of range: want 1 to %d seconds", seconds, longest)
	}
	c.Timeout = time.Duration(seconds) * time.Second
	return nil
}

func readLogLevel(c *Config, raw json.RawMessage) error {
	var name string
	if err := decode(raw, &name); err != nil {
		return err
	}
	levels := map[string]slog.Level{
		"": defaultLogLevel, "debug": slog.LevelDebug, "info": slog.LevelInfo,
		"warn": slog.LevelWarn, "warning": slog.LevelWarn, "error": slog.LevelError,
	}
	level, ok := levels[strings.ToLower(name)]
	if !ok {
		return invalid("%s: want debug, info, warning or error", quote(name))
	}
	c.LogLevel = level
	return nil
}

func readIPAMType(_ *Config, raw json.RawMessage) error {
	var name string
	if err := decode(raw, &name); err != nil {
		return err
	}
	if name != "" && name != "calico-ipam" && name != "korat-ipam" {
		return unsupported("%s is not supported: addresses come from korat's IP pools: want calico-ipam or korat-ipam", shown(raw))
	}
	return nil
}

func readMAC(c *Config, raw json.RawMessage) error {
	var text string
	if err := decode(raw, &text); err != nil || text == "" {
		return err
	}
	mac, err := net.ParseMAC(text)
	const group = 0x01 // in the first octet (IEEE 802)
	switch {
	case err != nil || len(mac) != 6:
		return invalid("%s: want six octets such as 02:00:00:00:00:01", quote(text))
	case mac[0]&group != 0 || bytes.Equal(mac, make([]byte, 6)):
		return invalid("%s: no interface can have this address: want a unicast one", quote(text))
	case mac.String() == podnet.HostMAC:
		return invalid("%s: the host's side of every pod has this address: choose another", quote(text))
	}
	c.Asked.MAC = mac.String()
	return nil
}

func readPrevResult(c *Config, raw json.RawMessage) error {
	if len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
		return nil
	}
	conf := types.PluginConf{CNIVersion: c.CNIVersion}
	err := json.Unmarshal(raw, &conf.RawPrevResult)
	if err == nil {
		err = version.ParsePrevResult(&conf)
	}
	if err != nil {
		return fault{code: socket.CodeDecodingFailure, key: "prevResult", reason: err.Error()}
	}
	c.PrevResult = conf.PrevResult
	return nil
}
