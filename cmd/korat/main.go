// SPDX-License-Identifier: Apache-2.0

// Command korat is the CNI plugin.
package main

import (
	"os"
	"os/signal"
	"syscall"

	cniplugin "korat/cni-plugin"
)

// version is set by the build: -ldflags "-X main.version=…".
var version = "unknown"

func main() {
	// A runtime that went away must not end us by SIGPIPE: what its ADD has made is undone first.
	signal.Ignore(syscall.SIGPIPE)
	plugin := cniplugin.Plugin{Version: version, Getenv: os.Getenv, Stdout: os.Stdout, Stderr: os.Stderr}
	os.Exit(plugin.Main())
}
