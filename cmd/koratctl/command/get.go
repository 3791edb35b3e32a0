// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"korat/api"
	"korat/api/store"
	"korat/cmd/koratctl/show"
)

// getFlags are those of get.
type getFlags struct {
	inputFlags
	all    bool
	output string
}

func (c *ctl) get() *cobra.Command {
	var f getFlags
	cmd := &cobra.Command{
		Use:   "get (KIND [NAME...] | -f FILE)",
		Short: "Print objects",
		RunE: func(cmd *cobra.Command, args []string) error {
			format, err := show.ParseFormat(f.output, show.Table, show.Wide, show.YAML, show.JSON, show.Name)
			if err != nil {
				return &usageError{err}
			}
			find, err := c.finder(f, args)
			if err != nil {
				return err
			}
			return c.withStore(cmd.Context(), func(ctx context.Context, st store.Store) error {
				objs, err := find(ctx, st)
				if len(objs) > 0 || err == nil {
					err = errors.Join(err, show.Objects(c.Stdout, format, objs, len(args) == 2))
				}
				return err
			})
		},
	}
	f.register(cmd)
	cmd.Flags().BoolVarP(&f.all, "all-namespaces", "A", false, "every namespace")
	cmd.Flags().StringVarP(&f.output, "output", "o", "", "wide, yaml, json or name")
	return cmd
}

// finder reads objects; with an error too if some were not to be had.
type finder func(context.Context, store.Reader) ([]api.Object, error)

func (c *ctl) finder(f getFlags, args []string) (finder, error) {
	switch {
	case len(f.paths) > 0 && len(args) > 0:
		return nil, usagef("give either -f or KIND and NAME")
	case len(f.paths) > 0:
		items, err := c.read(f.inputFlags)
		if err != nil {
			return nil, err
		}
		var keys []api.Key
		for _, it := range items {
			keys = append(keys, it.Object.Key())
		}
		return getter(keys), nil
	case len(args) == 0:
		return nil, usagef("say what to get: KIND, KIND and NAME, or -f FILE")
	}
	info, err := api.LookupKind(args[0])
	if err != nil {
		return nil, &usageError{err}
	}
	if len(args) == 1 {
		return lister(info, f), nil
	}
	var keys []api.Key
	for _, name := range args[1:] {
		keys = append(keys, named(info, f.namespace, name).Key())
	}
	return getter(keys), nil
}

func getter(keys []api.Key) finder {
	return func(ctx context.Context, st store.Reader) ([]api.Object, error) {
		var objs []api.Object
		var errs []error
		for _, key := range keys {
			obj, err := st.Get(ctx, key)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			objs = append(objs, obj)
		}
		return objs, errors.Join(errs...)
	}
}

func lister(info api.KindInfo, f getFlags) finder {
	return func(ctx context.Context, st store.Reader) ([]api.Object, error) {
		all, _, err := st.List(ctx, info.Kind)
		if err != nil {
			return nil, err
		}
		var objs []api.Object
		for _, obj := range all {
			if !info.Namespaced || f.all || obj.GetNamespace() == f.namespace {
				objs = append(objs, obj)
			}
		}
		return objs, nil
	}
}
