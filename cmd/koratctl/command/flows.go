// SPDX-License-Identifier: Apache-2.0

package command

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"korat/cmd/koratctl/show"
	"korat/cni-plugin/socket"
	"korat/felix"
)

func (c *ctl) flows() *cobra.Command {
	var output string
	var follow bool
	cmd := &cobra.Command{
		Use:   "flows --follow",
		Short: "Print the packets that are dropped or logged on this node, as they come, with the rule that decided",
		Long: `Print the packets that are dropped or logged on this node, as they come, with the rule that decided: those that policies
deny or could not allow (spoofed sources, tunnels from pods, unknown services), those that a Log rule matches, and those that
a staged policy would decide on. It goes on until it is ended.

The agent on this node is asked. Nothing is kept: packets are told of from now on. If more come than can be told, it is
said how many were left out; -o json has an object on each line.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			format, err := show.ParseFormat(output, show.Table, show.JSON)
			if err != nil {
				return usagef("--output: %w", err)
			}
			if !follow {
				return usagef("give --follow: packets are told of as they come, and none is kept")
			}
			conn, err := socket.DialOnce(c.socket)
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close() }() // the agent sees that nobody follows any more
			return conn.Follow(cmd.Context(), socket.Request{Verb: socket.VerbFlows}, func(r socket.Reply) error {
				var p felix.ReportedPacket
				if err := json.Unmarshal(r.Status, &p); err != nil {
					return fmt.Errorf("the agent tells %q: %w: are koratctl and the agent of one version?", r.Status, err)
				}
				return show.ReportedPacket(c.Stdout, format, p)
			})
		},
	}
	cmd.Flags().BoolVar(&follow, "follow", false, "go on until ended")
	cmd.Flags().StringVarP(&output, "output", "o", "", "json")
	return cmd
}
