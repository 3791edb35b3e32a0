// SPDX-License-Identifier: Apache-2.0

// Package change carries a person's manifests into the datastore: apply, create, replace and delete.
// Everything is checked before the first write; then each object is written on its own, by
// compare-and-swap, as the datastore knows no transactions.
package change

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"korat/api"
	"korat/api/store"
	"korat/cmd/koratctl/manifest"
	"korat/cmd/koratctl/picture"
)

// Verb says what to do with each object.
type Verb string

// The verbs.
const (
	// Apply creates what is absent and replaces what is there.
	Apply Verb = "apply"
	// Create refuses what is there.
	Create Verb = "create"
	// Replace refuses what is absent.
	Replace Verb = "replace"
	// Delete removes; what is absent is an error.
	Delete Verb = "delete"
)

// tries bounds how often a write is repeated because somebody else wrote meanwhile.
const tries = 5

// Outcome is what became of one object.
type Outcome struct {
	Key api.Key
	// Done is "created", "configured", "unchanged" or "deleted", or begins with "terminating".
	Done string
}

// Make does the verb, which is not Delete, with every item, in the order in which objects refer to each other. The
// outcomes are those of the objects that succeeded, with an error too if others did not.
func Make(ctx context.Context, st store.Store, verb Verb, items []manifest.Item) ([]Outcome, error) {
	items = ordered(verb, items)
	if err := writable(items); err != nil {
		return nil, err
	}
	snap, err := picture.Read(ctx, st, api.Kinds()...)
	if err != nil {
		return nil, err
	}
	c := changer{st, verb, snap}
	if err := c.check(items); err != nil {
		return nil, err
	}
	return each(items, func(it manifest.Item) (string, error) {
		done, err := c.write(ctx, it.Object)
		if err == nil { // what follows may refer to it
			c.snap = c.snap.With(c.merged(it.Object))
		}
		return done, err
	})
}

// ordered sorts by kind, those that others refer to first; for a deletion, last.
func ordered(verb Verb, items []manifest.Item) []manifest.Item {
	kinds := api.Kinds()
	items = slices.Clone(items)
	slices.SortStableFunc(items, func(a, b manifest.Item) int {
		d := slices.Index(kinds, a.Object.Key().Kind) - slices.Index(kinds, b.Object.Key().Kind)
		if verb == Delete {
			return -d
		}
		return d
	})
	return items
}

// writable refuses the kinds that the agents own: what a person writes there, an agent acts on as its
// own memory, and an address is given twice.
func writable(items []manifest.Item) error {
	var errs []error
	for _, it := range items {
		key := it.Object.Key()
		switch key.Kind {
		case api.KindWorkloadEndpoint, api.KindBlockAffinity, api.KindIPAMBlock:
			errs = append(errs, fmt.Errorf("%s: %s: the agents keep this kind; it can be read but not changed by hand", it.Source, key))
		default:
		}
	}
	return errors.Join(errs...)
}

func each(items []manifest.Item, do func(manifest.Item) (string, error)) ([]Outcome, error) {
	var outcomes []Outcome
	var errs []error
	for _, it := range items {
		done, err := do(it)
		if err != nil {
			errs = append(errs, it.Located(err))
			continue
		}
		outcomes = append(outcomes, Outcome{it.Object.Key(), done})
	}
	return outcomes, errors.Join(errs...)
}
