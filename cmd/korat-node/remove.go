// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	config "korat/cmd/settings"
	"korat/felix/kernel"
)

// setsPatience is how long the kernel may take to let go of sets, and agentPatience how long an agent to answer.
const (
	setsPatience  = 5 * time.Second
	agentPatience = time.Second
)

// removeCommand takes the packet filter of a host back to what others have in it.
func removeCommand() *cobra.Command {
	var runDir string
	cmd := &cobra.Command{
		Use:   "remove-rules",
		Short: "Remove korat's rules and IP sets from this host, whose agent has been stopped",
		Long: `Remove korat's chains, rules and IP sets from this host, in both of iptables' backends and both families, and
nothing else: pods, routes and established connections stay. From then on no policy is enforced on this host.

An agent that runs, or is started again, puts everything back.`,
		Args: cobra.NoArgs,
	}
	flags := cmd.Flags()
	flags.StringVar(&runDir, "run-dir", "/run/korat", "directory of the agent's socket")
	file := flags.String(config.Config, "", "YAML file with the names of flags as keys")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := config.Fill(flags, *file, os.LookupEnv); err != nil {
			return err
		}
		return removeRules(cmd.Context(), filepath.Join(runDir, "agent.sock"), cmd.OutOrStdout())
	}
	return cmd
}

func removeRules(ctx context.Context, agent string, out io.Writer) error {
	dialer := net.Dialer{Timeout: agentPatience}
	if c, err := dialer.DialContext(ctx, "unix", agent); err == nil {
		return errors.Join(fmt.Errorf("an agent answers on %s, which would put everything back: stop it first", agent), c.Close())
	}
	host, err := kernel.Open()
	if err != nil {
		return err
	}
	chains, err := host.RemoveChains(ctx, kernel.ChainsConfig{})
	if err == nil {
		err = removeSets(ctx, host, chains, out)
	}
	return errors.Join(err, host.Close())
}

func removeSets(ctx context.Context, host *kernel.Handle, chains int, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, setsPatience)
	defer cancel()
	sets, err := host.RemoveSets(ctx)
	fmt.Fprintf(out, "removed what %d chains had of korat, and %d sets\n", chains, sets)
	return err
}
