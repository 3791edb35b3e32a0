// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"korat/bgp/speaker/process"
	config "korat/cmd/settings"
	"korat/cni-plugin/socket"
)

// speakerCommand runs the BGP speaker and nothing else. The agent starts it as its child, or a
// service manager runs it beside the agent.
func speakerCommand() *cobra.Command {
	var runDir, level, format string
	cmd := &cobra.Command{
		Use:   "speaker",
		Short: "Run the BGP speaker that the agent drives over a Unix socket",
		Long: `Run the BGP speaker that the agent drives over a Unix socket.

The socket carries GoBGP's own gRPC API: gobgp --target unix:///run/korat/speaker.sock neighbor.
On SIGTERM the speaker exits without telling its peers: they keep our routes for the restart time
(RFC 4724), within which the next one is expected.`,
		Args: cobra.NoArgs,
	}
	flags := cmd.Flags()
	flags.StringVar(&runDir, "run-dir", "/run/korat", "directory of the sockets")
	flags.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	flags.StringVar(&format, "log-format", "text", "text or json")
	file := flags.String(config.Config, "", "YAML file with the names of flags as keys")
	path := flags.String("socket", "", "the speaker's socket [RUN-DIR/speaker.sock]")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := config.Fill(flags, *file, os.LookupEnv); err != nil {
			return err
		}
		log, err := newLogger(level, format)
		if err != nil {
			return err
		}
		if *path == "" {
			*path = filepath.Join(runDir, "speaker.sock")
		}
		if err := checkSpeakerSocket(*path); err != nil {
			return fmt.Errorf("--socket, --run-dir: %w", err)
		}
		return process.Run(cmd.Context(), process.Config{Socket: *path, StatusFile: statusFile(*path), Log: log})
	}
	return cmd
}

// checkSpeakerSocket refuses a socket that another than root could put there.
func checkSpeakerSocket(path string) error {
	if err := socket.CheckPath(path); err != nil {
		return err
	}
	return socket.CheckDirectory(filepath.Dir(path))
}

// statusFile is where the speaker notes why sessions are down: beside its socket.
func statusFile(path string) string { return path + ".status.json" }
