// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"korat/api"
	"korat/api/store"
	"korat/cmd/koratctl/picture"
	"korat/cmd/koratctl/show"
	"korat/ipam/audit"
)

func (c *ctl) ipam() *cobra.Command {
	return group("ipam", "Look after addresses", c.ipamShow(), c.ipamCheck(), c.ipamRelease(), c.ipamConfigure())
}

// showFlags are those of ipam show.
type showFlags struct {
	blocks, borrowed, configuration bool
	ip, output                      string
}

func (c *ctl) ipamShow() *cobra.Command {
	var f showFlags
	cmd := &cobra.Command{
		Use:   "show [--show-blocks | --show-borrowed | --show-configuration | --ip=ADDRESS]",
		Short: "Print how full the pools are, or who has an address",
		Long: `Print how full the pools are, or who has an address.

IPS FREE is what pods can still get: RESERVED (by an IPReservation) and COOLING (released a moment ago) are not part of
it. LEASED is: those are kept by the block's node for its own pods. A pool's addresses are free whether or not a node has
claimed their block.`,
		Example: `  koratctl ipam show                       # each pool
  koratctl ipam show --show-blocks         # each block too, with its node
  koratctl ipam show --ip=172.17.8.2       # whose address is it, and why is it free if it is
  koratctl ipam show --show-borrowed -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := atMostOne(cmd, "show-blocks", "show-borrowed", "show-configuration", "ip"); err != nil {
				return err
			}
			format, err := show.ParseFormat(f.output, show.Table, show.YAML, show.JSON)
			if err != nil {
				return usagef("--output: %w", err)
			}
			run, err := c.shower(f, format)
			if err != nil {
				return err
			}
			return c.withStore(cmd.Context(), run)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.blocks, "show-blocks", false, "print every block too, with its node")
	flags.BoolVar(&f.borrowed, "show-borrowed", false, "print the addresses that nodes have from other nodes' blocks")
	flags.BoolVar(&f.configuration, "show-configuration", false, "print the settings that hold for all nodes")
	flags.StringVar(&f.ip, "ip", "", "print who has this address")
	flags.StringVarP(&f.output, "output", "o", "", "yaml or json")
	return cmd
}

// shower gives what prints what the flags ask for.
func (c *ctl) shower(f showFlags, format show.Format) (func(context.Context, store.Store) error, error) {
	if f.configuration {
		return func(ctx context.Context, st store.Store) error {
			conf, _, err := configuration(ctx, st)
			if err != nil {
				return err
			}
			return c.print(format, conf.Spec, func() error { return show.Configuration(c.Stdout, conf) })
		}, nil
	}
	addr, err := parseAddress("--ip", f.ip)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, st store.Store) error {
		book, err := readBook(ctx, st)
		switch {
		case err != nil:
			return err
		case addr.IsValid():
			a := book.Address(addr)
			return c.print(format, a, func() error { return show.Address(c.Stdout, a) })
		case f.borrowed:
			all := book.Borrowed()
			return c.print(format, all, func() error { return show.Borrowed(c.Stdout, all) })
		}
		usage := book.Usage()
		if !f.blocks {
			for i := range usage {
				usage[i].Blocks = nil
			}
		}
		return c.print(format, usage, func() error { return show.Usage(c.Stdout, usage, f.blocks) })
	}, nil
}

// print prints a value for programs, or else as the function does.
func (c *ctl) print(format show.Format, v any, table func() error) error {
	if format == show.Table {
		return table()
	}
	return show.Value(c.Stdout, format, v)
}

// atMostOne refuses several of these flags.
func atMostOne(cmd *cobra.Command, flags ...string) error {
	var given []string
	for _, name := range flags {
		if cmd.Flags().Changed(name) {
			given = append(given, "--"+name)
		}
	}
	if len(given) > 1 {
		return usagef("%s: give one of them", strings.Join(given, ", "))
	}
	return nil
}

// parseAddress reads the value of a flag; an empty one gives no address.
func parseAddress(flag, text string) (netip.Addr, error) {
	if text == "" {
		return netip.Addr{}, nil
	}
	addr, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		return addr, usagef("%s: %q: must be an address such as 172.17.8.2 or fd00::8:2", flag, text)
	case addr.Zone() != "":
		return addr, usagef("%s: %q: an address of a pod has no zone", flag, text)
	}
	return addr.Unmap(), nil
}

// readBook reads all that tells of addresses.
func readBook(ctx context.Context, st store.Reader) (*audit.Book, error) {
	snap, err := picture.Read(ctx, st, api.KindIPPool, api.KindIPReservation, api.KindNode, api.KindIPAMBlock,
		api.KindBlockAffinity, api.KindWorkloadEndpoint)
	if err != nil {
		return nil, err
	}
	return audit.Read(snap), nil
}

// configuration gives the IPAMConfiguration, with defaults; stored is nil if there is none.
func configuration(ctx context.Context, st store.Reader) (effective, stored *api.IPAMConfiguration, err error) {
	obj, err := st.Get(ctx, api.Key{Kind: api.KindIPAMConfiguration, Name: api.DefaultName})
	if errors.Is(err, store.ErrNotFound) {
		conf := &api.IPAMConfiguration{}
		conf.Name = api.DefaultName
		api.Default(conf)
		return conf, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	stored, ok := obj.(*api.IPAMConfiguration)
	if !ok {
		return nil, nil, fmt.Errorf("%s is stored as a %T", obj.Key(), obj)
	}
	conf := stored.DeepCopy()
	api.Default(conf)
	return conf, stored, nil
}

// clusterGUID tells this cluster from others.
func clusterGUID(ctx context.Context, st store.Reader) (string, error) {
	obj, err := st.Get(ctx, api.Key{Kind: api.KindClusterInformation, Name: api.DefaultName})
	if err != nil {
		return "", fmt.Errorf("which cluster is this: %w: an agent makes it when it first starts", err)
	}
	info, ok := obj.(*api.ClusterInformation)
	if !ok || info.Spec.ClusterGUID == "" {
		return "", fmt.Errorf("%s: spec.clusterGUID is empty: an agent sets it when it starts", obj.Key())
	}
	return info.Spec.ClusterGUID, nil
}
