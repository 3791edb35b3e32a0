// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"korat/api"
	"korat/api/store"
	"korat/cmd/koratctl/show"
	"korat/cni-plugin/socket"
	"korat/felix"
)

func (c *ctl) node() *cobra.Command {
	var output string
	status := &cobra.Command{
		Use:   "status",
		Short: "Print this node's BGP sessions and routes, and why a session is down",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			format, err := show.ParseFormat(output, show.Table, show.YAML, show.JSON)
			if err != nil {
				return &usageError{err}
			}
			s, err := c.askNode(cmd.Context())
			if err != nil {
				return err
			}
			if format == show.Table {
				return show.Status(c.Stdout, s, c.Now())
			}
			return show.Value(c.Stdout, format, s)
		},
	}
	status.Flags().StringVarP(&output, "output", "o", "", "yaml or json")
	return group("node", "Look after this node", status)
}

// askNode gets the status from the agent on this node.
func (c *ctl) askNode(ctx context.Context) (felix.NodeStatus, error) {
	var s felix.NodeStatus
	ctx, cancel, err := c.limited(ctx)
	if err != nil {
		return s, err
	}
	defer cancel()
	conn, err := socket.Dial(ctx, c.socket)
	if err != nil {
		return s, err
	}
	defer func() { _ = conn.Close() }() // nothing depends on the goodbye
	reply, err := conn.Call(ctx, socket.Request{Verb: socket.VerbNodeStatus})
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(reply.Status, &s); err != nil {
		return s, fmt.Errorf("the agent's status: %w: are koratctl and the agent of one version?", err)
	}
	return s, nil
}

func (c *ctl) versionCommand() *cobra.Command {
	var client bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print koratctl's version, and the cluster's",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			fmt.Fprintf(c.Stdout, "Client Version:    %s\n", c.Version)
			if client {
				return nil
			}
			return c.withStore(cmd.Context(), func(ctx context.Context, st store.Store) error {
				key := api.Key{Kind: api.KindClusterInformation, Name: api.DefaultName}
				obj, err := st.Get(ctx, key)
				if err != nil {
					return fmt.Errorf("%w (--client prints koratctl's version alone)", err)
				}
				if info, ok := obj.(*api.ClusterInformation); ok {
					fmt.Fprintf(c.Stdout, "Cluster Version:   %s\nCluster Type:      %s\n", info.Spec.CalicoVersion, info.Spec.ClusterType)
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&client, "client", false, "do not ask the cluster")
	return cmd
}

// group is a command that only holds others.
func group(name, short string, subs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: name, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usagef("say which command of %s: see --help", name)
		},
	}
	cmd.AddCommand(subs...)
	return cmd
}
