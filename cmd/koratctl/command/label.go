// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"korat/api"
	"korat/api/store"
	"korat/cmd/koratctl/change"
)

func (c *ctl) label() *cobra.Command {
	var namespace string
	var overwrite bool
	cmd := &cobra.Command{
		Use:   "label KIND NAME (KEY=VALUE | KEY-)...",
		Short: "Set and remove labels of an object, a pod or a namespace",
		Long: `Set (KEY=VALUE) and remove (KEY-) labels of an object. Everything else in it stays as it is.

KIND may also be pod, for the WorkloadEndpoints of a pod, and namespace, whose labels are kept in its Profile
kns.NAME and inherited by all that is in the namespace. The labels that a pod begins with are its runtime's; those
that are set here stay until the pod is removed.`,
		Example: `  koratctl label pod web -n shop role=frontend
  koratctl label node host-a rack=r1 --overwrite
  koratctl label namespace shop team=blue stage-`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) < 3 {
				return usagef("say what to label, and how: KIND NAME KEY=VALUE or KEY-")
			}
			l, err := labels(args[2:])
			if err != nil {
				return err
			}
			l.Overwrite = overwrite
			do, err := labeller(args[0], namespace, args[1], l)
			if err != nil {
				return err
			}
			return c.carryOut(cmd.Context(), do)
		},
	}
	cmd.Flags().StringVarP(&namespace, "namespace", "n", api.DefaultName, "namespace of a pod, or of an object of a kind that has namespaces")
	cmd.Flags().BoolVar(&overwrite, "overwrite", false, "change the values of labels that there are")
	return cmd
}

// labels reads KEY=VALUE and KEY-.
func labels(args []string) (change.Labels, error) {
	l := change.Labels{Set: map[string]string{}}
	for _, arg := range args {
		key, value, isSet := strings.Cut(arg, "=")
		if !isSet {
			var removes bool
			if key, removes = strings.CutSuffix(arg, "-"); !removes {
				return l, usagef("%q: write KEY=VALUE to set a label, KEY- to remove one", arg)
			}
		}
		if key == "" {
			return l, usagef("%q: has no key", arg)
		}
		if _, set := l.Set[key]; set || slices.Contains(l.Remove, key) {
			return l, usagef("%q: label %s is given twice", arg, key)
		}
		if isSet {
			l.Set[key] = value
		} else {
			l.Remove = append(l.Remove, key)
		}
	}
	return l, nil
}

// labeller finds out what is to be labelled.
func labeller(kind, namespace, name string, l change.Labels) (func(context.Context, store.Store) ([]change.Outcome, error), error) {
	one := func(o change.Outcome, err error) ([]change.Outcome, error) {
		if err != nil {
			return nil, err
		}
		return []change.Outcome{o}, nil
	}
	switch strings.ToLower(kind) {
	case "pod", "pods", "po":
		return func(ctx context.Context, st store.Store) ([]change.Outcome, error) {
			return change.LabelPod(ctx, st, namespace, name, l)
		}, nil
	case "namespace", "namespaces", "ns":
		return func(ctx context.Context, st store.Store) ([]change.Outcome, error) {
			return one(change.LabelNamespace(ctx, st, name, l))
		}, nil
	}
	info, err := api.LookupKind(kind)
	if err != nil {
		return nil, &usageError{err}
	}
	key := named(info, namespace, name).Key()
	return func(ctx context.Context, st store.Store) ([]change.Outcome, error) {
		return one(change.Label(ctx, st, key, l))
	}, nil
}
