// SPDX-License-Identifier: Apache-2.0

// Command korat is the CNI plugin.
package main

import (
	"os"

	cniplugin "korat/cni-plugin"
)

// version is set by the build: -ldflags "-X main.version=…".
var version = "unknown"

func main() {
	plugin := cniplugin.Plugin{Version: version, Getenv: os.Getenv, Stdout: os.Stdout, Stderr: os.Stderr}
	os.Exit(plugin.Main())
}
