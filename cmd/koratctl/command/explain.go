// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"korat/api"
	"korat/api/store"
	"korat/cmd/koratctl/picture"
	"korat/cmd/koratctl/show"
	"korat/policy/explain"
)

// exitDenied says that explain's verdict is a denial. Its errors have exitUsage, so that a script tells them apart.
const exitDenied = 1

// exitError ends a run with a code of its own, and no message if there is no error in it.
type exitError struct {
	code int
	error
}

// explainFlags are those of explain.
type explainFlags struct {
	from, to, proto    string
	port, sourcePort   uint16
	icmpType, icmpCode uint8
	ipv6               bool
	leaves, enters     string
	output             string
}

func (c *ctl) explainCommand() *cobra.Command {
	var f explainFlags
	cmd := &cobra.Command{
		Use:   "explain --from END --to END [--proto PROTOCOL] [--port PORT]",
		Short: "Print what policies make of a flow, and which rule decides",
		Long: `Print what policies make of a flow, at both of its ends, and which rule decides. END is a pod (NAMESPACE/POD),
a node's name or an address.

The datastore is asked for the verdict: it is what holds once the agents have done what the datastore says. On a node the
agent there is asked, too, for the rule in the kernel and the packets that it has counted, of the node's own endpoints. Of other
nodes' pods it is said which rule that has to be, by the datastore. A flow
is meant as policies see it, after the address of a service has become that of a pod. It is a new connection: what
belongs to an established one passes.

Exit codes: 0 allowed, 1 denied, 2 there is no answer.`,
		Example: `  koratctl explain --from shop/web --to shop/db --port 5432
  koratctl explain --from 192.0.2.7 --to shop/web --proto udp --port 53
  koratctl explain --from shop/web --to host-a --proto icmp`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			format, err := show.ParseFormat(f.output, show.Table, show.YAML, show.JSON)
			if err != nil {
				return usagef("--output: %w", err)
			}
			ask, err := f.question(cmd)
			if err != nil {
				return err
			}
			allowed, err := c.explainFlow(cmd.Context(), ask, format)
			switch {
			case err != nil:
				return &exitError{exitUsage, err}
			case !allowed:
				return &exitError{code: exitDenied}
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.from, "from", "", "who opens the connection: NAMESPACE/POD, a node or an address")
	flags.StringVar(&f.to, "to", "", "to whom: NAMESPACE/POD, a node or an address")
	flags.StringVar(&f.proto, "proto", "tcp", "tcp, udp, sctp, udplite, icmp or a number")
	flags.Var(&number[uint16]{&f.port, 1}, "port", "destination port")
	flags.Var(&number[uint16]{&f.sourcePort, 1}, "source-port", "source port [one that no rule names]")
	flags.Var(&number[uint8]{&f.icmpType, 0}, "icmp-type", "ICMP type, for proto icmp [echo request]")
	flags.Var(&number[uint8]{&f.icmpCode, 0}, "icmp-code", "ICMP code, for proto icmp")
	flags.BoolVar(&f.ipv6, "ipv6", false, "the flow is IPv6, where the ends have addresses of both families")
	flags.StringVar(&f.leaves, "out-interface", "", "the interface by which it leaves the first node, where that has several host endpoints")
	flags.StringVar(&f.enters, "in-interface", "", "the interface by which it comes to the last node, where that has several host endpoints")
	flags.StringVarP(&f.output, "output", "o", "", "yaml or json")
	return cmd
}

// explainFlow prints the verdict and says whether the flow is allowed.
func (c *ctl) explainFlow(ctx context.Context, ask question, format show.Format) (allowed bool, err error) {
	err = c.withWorld(ctx, func(w *explain.World, snap api.Snapshot) error {
		flow, err := ask.flow(w)
		if err != nil {
			return err
		}
		e := show.Explain(w, flow)
		c.locate(ctx, &e.Verdict, api.FamilyOf(flow.From.Address), snap)
		allowed = e.Verdict.Allowed
		return show.Explanation(c.Stdout, format, e)
	})
	return allowed, err
}

// withWorld reads what policies are about. Of objects with faults it warns: agents take them as far as they go.
func (c *ctl) withWorld(ctx context.Context, do func(*explain.World, api.Snapshot) error) error {
	return c.withStore(ctx, func(ctx context.Context, st store.Store) error {
		snap, err := picture.Read(ctx, st,
			api.KindTier, api.KindProfile, api.KindNetworkPolicy, api.KindGlobalNetworkPolicy, api.KindKubernetesNetworkPolicy,
			api.KindClusterNetworkPolicy, api.KindStagedNetworkPolicy, api.KindStagedGlobalNetworkPolicy,
			api.KindNetworkSet, api.KindGlobalNetworkSet, api.KindEndpointSlice,
			api.KindWorkloadEndpoint, api.KindHostEndpoint, api.KindNode, api.KindIPPool, api.KindFelixConfiguration)
		if err != nil {
			return err
		}
		w, faults := explain.Of(snap)
		if faults != nil {
			fmt.Fprintln(c.Stderr, "warning: what is not understood denies:", faults)
		}
		return do(w, snap)
	})
}

func (c *ctl) policy() *cobra.Command {
	var output string
	order := &cobra.Command{
		Use:   "order NAMESPACE/POD",
		Short: "Print the policies that apply to a pod, in the order in which they are evaluated",
		Long: `Print the policies that apply to a pod, in the order in which they are evaluated: by direction, tier and order.
A host endpoint is given by its name alone.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			format, err := show.ParseFormat(output, show.Table, show.YAML, show.JSON)
			if err != nil {
				return usagef("--output: %w", err)
			}
			namespace, name := splitName(args[0])
			return c.withWorld(cmd.Context(), func(w *explain.World, _ api.Snapshot) error {
				var orders []explain.Order
				for _, ep := range w.Endpoints(namespace, name) {
					orders = append(orders, w.Order(ep))
				}
				c.locateOrders(cmd.Context(), orders)
				if len(orders) == 0 {
					return fmt.Errorf("%s: there is no such endpoint: a pod is written NAMESPACE/POD, a host endpoint by its name (koratctl get wep -A)", args[0])
				}
				return show.Orders(c.Stdout, format, orders)
			})
		},
	}
	order.Flags().StringVarP(&output, "output", "o", "", "yaml or json")
	return group("policy", "Look at policies", order)
}
