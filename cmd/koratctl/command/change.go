// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"korat/api"
	"korat/api/store"
	"korat/cmd/koratctl/change"
	"korat/cmd/koratctl/manifest"
)

// inputFlags are those of commands that read manifests.
type inputFlags struct {
	paths     []string
	recursive bool
	namespace string
}

func (f *inputFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringSliceVarP(&f.paths, "filename", "f", nil, "file or folder of YAML or JSON, or - for stdin; may be repeated")
	cmd.Flags().BoolVarP(&f.recursive, "recursive", "R", false, "take the folders of a folder too")
	registerNamespace(cmd, &f.namespace)
}

func (c *ctl) read(f inputFlags) ([]manifest.Item, error) {
	return manifest.Read(manifest.Input{Paths: f.paths, Recursive: f.recursive, Stdin: c.Stdin, Namespace: f.namespace})
}

func (c *ctl) changes() []*cobra.Command {
	return []*cobra.Command{
		c.change(change.Apply, "Create objects, or change those that exist"),
		c.change(change.Create, "Create objects that do not exist yet"),
		c.change(change.Replace, "Change objects that exist"),
		c.deletion(),
	}
}

func (c *ctl) change(verb change.Verb, short string) *cobra.Command {
	var in inputFlags
	cmd := &cobra.Command{
		Use:   string(verb) + " -f FILE",
		Short: short,
		Long: short + `.

All objects are checked before the first is written. A manifest is the whole object: what it leaves
out is reset to its default, except for a Node's addresses, which its agent writes. A resourceVersion in it means "only if nobody changed it since".`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(in.paths) == 0 {
				return usagef("say what to %s: -f FILE, -f FOLDER or -f -", verb)
			}
			items, err := c.read(in)
			if err != nil {
				return err
			}
			return c.carryOut(cmd.Context(), func(ctx context.Context, st store.Store) ([]change.Outcome, error) {
				return change.Make(ctx, st, verb, items)
			})
		},
	}
	in.register(cmd)
	return cmd
}

func (c *ctl) deletion() *cobra.Command {
	var in inputFlags
	var force bool
	cmd := &cobra.Command{
		Use:   "delete (-f FILE | KIND NAME...)",
		Short: "Delete objects",
		Long: `Delete objects.

An IPPool with addresses in use is marked as terminating: it gives out no more of them, and goes when its last
block is empty.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			items, err := c.toDelete(in, args)
			if err != nil {
				return err
			}
			return c.carryOut(cmd.Context(), func(ctx context.Context, st store.Store) ([]change.Outcome, error) {
				return change.Remove(ctx, st, items, force, c.Now())
			})
		},
	}
	in.register(cmd)
	cmd.Flags().BoolVar(&force, "force", false, "delete IPPools at once, even if their addresses are in use")
	return cmd
}

func (c *ctl) toDelete(in inputFlags, args []string) ([]manifest.Item, error) {
	switch {
	case len(in.paths) > 0 && len(args) > 0:
		return nil, usagef("give either -f or KIND and NAME")
	case len(in.paths) > 0:
		return c.read(in)
	case len(args) < 2:
		return nil, usagef("say what to delete: -f FILE, or KIND and NAME")
	}
	info, err := api.LookupKind(args[0])
	if err != nil {
		return nil, &usageError{err}
	}
	var items []manifest.Item
	for _, name := range args[1:] {
		items = append(items, manifest.Item{Object: named(info, in.namespace, name), Source: "command line"})
	}
	return items, nil
}

// named gives an object with nothing but its key.
func named(info api.KindInfo, namespace, name string) api.Object {
	obj := api.New(info.Kind)
	obj.SetName(name)
	if info.Namespaced {
		obj.SetNamespace(namespace)
	}
	return obj
}

// carryOut changes the datastore and prints a line for each object that it succeeded with.
func (c *ctl) carryOut(ctx context.Context, do func(context.Context, store.Store) ([]change.Outcome, error)) error {
	return c.withStore(ctx, func(ctx context.Context, st store.Store) error {
		outcomes, err := do(ctx, st)
		for _, o := range outcomes {
			if _, printErr := fmt.Fprintln(c.Stdout, o.Key, o.Done); printErr != nil {
				return errors.Join(err, printErr)
			}
		}
		return err
	})
}

func registerNamespace(cmd *cobra.Command, namespace *string) {
	cmd.Flags().StringVarP(namespace, "namespace", "n", api.DefaultName, "namespace of objects that need one and name none")
}
