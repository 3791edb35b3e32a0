// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"korat/api"
	"korat/api/store"
	"korat/cmd/koratctl/change"
	"korat/cmd/koratctl/manifest"
	"korat/cmd/koratctl/show"
)

// configureTries bounds how often a change is repeated because somebody else wrote meanwhile.
const configureTries = 5

// configureFlags are those of ipam configure.
type configureFlags struct {
	strict, auto     bool
	blocks, cooldown int
}

func (c *ctl) ipamConfigure() *cobra.Command {
	var f configureFlags
	cmd := &cobra.Command{
		Use:   "configure [--strictaffinity=BOOL] [--auto-allocate-blocks=BOOL] [--max-blocks-per-host=N] [--ip-cooldown-seconds=N]",
		Short: "Change the settings of address management that hold for all nodes",
		Long: `Change the settings of address management that hold for all nodes, and print them as they were and as they are.
A setting that is not given stays as it is. It is the IPAMConfiguration "default", which apply changes as well.`,
		Example: `  koratctl ipam configure --strictaffinity=false
  koratctl ipam configure --max-blocks-per-host=4 --ip-cooldown-seconds=60`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !f.apply(cmd.Flags(), &api.IPAMConfigurationSpec{}) {
				return usagef("say what to change: --strictaffinity, --auto-allocate-blocks, --max-blocks-per-host or --ip-cooldown-seconds")
			}
			return c.withStore(cmd.Context(), func(ctx context.Context, st store.Store) error {
				before, after, err := configure(ctx, st, func(s *api.IPAMConfigurationSpec) { f.apply(cmd.Flags(), s) })
				if err != nil {
					return err
				}
				return show.Reconfiguration(c.Stdout, before, after)
			})
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.strict, "strictaffinity", true, "false lets a node that can claim no more blocks borrow addresses of other nodes' blocks")
	flags.BoolVar(&f.auto, "auto-allocate-blocks", true, "false keeps nodes from claiming blocks")
	flags.IntVar(&f.blocks, "max-blocks-per-host", 0, "keep a node that has as many blocks from claiming more; 0 is no limit")
	flags.IntVar(&f.cooldown, "ip-cooldown-seconds", api.DefaultIPCooldownSeconds, "how long a released address stays unassigned")
	return cmd
}

// apply sets what was given, and says whether anything was.
func (f configureFlags) apply(flags *pflag.FlagSet, s *api.IPAMConfigurationSpec) (given bool) {
	set := func(flag string, do func()) {
		if flags.Changed(flag) {
			do()
			given = true
		}
	}
	set("strictaffinity", func() { s.StrictAffinity = &f.strict })
	set("auto-allocate-blocks", func() { s.AutoAllocateBlocks = &f.auto })
	set("max-blocks-per-host", func() { s.MaxBlocksPerHost = f.blocks })
	set("ip-cooldown-seconds", func() { s.IPCooldownSeconds = &f.cooldown })
	return given
}

// configure changes the IPAMConfiguration as it is, and makes one if there is none.
func configure(ctx context.Context, st store.Store, set func(*api.IPAMConfigurationSpec)) (before, after *api.IPAMConfiguration, err error) {
	for range configureTries {
		before, stored, err := configuration(ctx, st)
		if err != nil {
			return nil, nil, err
		}
		after := before.DeepCopy()
		set(&after.Spec)
		verb := change.Replace
		if stored == nil {
			verb = change.Create
		}
		_, err = change.Make(ctx, st, verb, []manifest.Item{{Object: after.DeepCopy(), Source: "command line"}})
		if !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrExists) && !errors.Is(err, store.ErrNotFound) {
			return before, after, err
		}
	}
	return nil, nil, fmt.Errorf("IPAMConfiguration/%s: was changed by others %d times in a row: try again", api.DefaultName, configureTries)
}
