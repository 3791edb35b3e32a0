// SPDX-License-Identifier: Apache-2.0

package change

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"

	"korat/api"
	"korat/api/store"
	"korat/cmd/koratctl/manifest"
)

// changer writes objects that were checked against one picture of the datastore.
type changer struct {
	st   store.Store
	verb Verb
	snap api.Snapshot
}

// check defaults and validates every object, each against what the datastore will hold once the others
// are written.
func (c *changer) check(items []manifest.Item) error {
	after := c.snap
	for _, it := range items {
		api.Default(it.Object)
		after = after.With(c.merged(it.Object))
	}
	var errs []error
	for _, it := range items {
		if err := c.checkOne(c.merged(it.Object), after); err != nil {
			errs = append(errs, it.Located(err))
		}
	}
	return errors.Join(errs...)
}

// merged gives the object as it will be written, as far as the picture tells.
func (c *changer) merged(obj api.Object) api.Object {
	have, _ := c.snap.Get(obj.Key())
	return keepAgents(obj, have)
}

func (c *changer) checkOne(obj api.Object, after api.Snapshot) error {
	if err := api.Validate(obj); err != nil {
		return err
	}
	key := obj.Key()
	have, exists := c.snap.Get(key)
	switch {
	case exists && c.verb == Create:
		return fmt.Errorf("%s: %w: use apply or replace to change it", key, store.ErrExists)
	case !exists && c.verb == Replace:
		return fmt.Errorf("%s: %w: use apply or create to make it", key, store.ErrNotFound)
	}
	return api.ValidateChange(have, obj, after.Without(key))
}

// write creates or replaces one object. A resourceVersion in the manifest means that the person has
// seen that state and no other may be overwritten; without one the last write wins.
func (c *changer) write(ctx context.Context, obj api.Object) (string, error) {
	for range tries {
		done, err := c.writeOnce(ctx, obj.DeepCopyObject())
		raced := errors.Is(err, store.ErrConflict) && obj.GetResourceVersion() == "" ||
			c.verb == Apply && (errors.Is(err, store.ErrExists) || errors.Is(err, store.ErrNotFound))
		if !raced {
			return done, err
		}
	}
	return "", fmt.Errorf("%s: was changed by others %d times in a row: try again", obj.Key(), tries)
}

func (c *changer) writeOnce(ctx context.Context, obj api.Object) (string, error) {
	key := obj.Key()
	have, err := c.st.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) && c.verb != Replace || c.verb == Create {
		return c.create(ctx, obj)
	}
	if err != nil {
		return "", err
	}
	obj = keepAgents(obj, have)
	// What was checked may have changed since.
	if err := api.ValidateChange(have, obj, c.snap.Without(key)); err != nil {
		return "", err
	}
	given := obj.GetResourceVersion()
	keepIdentity(obj, have)
	if given != "" && given != have.GetResourceVersion() {
		return "", fmt.Errorf("%s: metadata.resourceVersion %s: %w", key, given, store.ErrConflict)
	}
	if equality.Semantic.DeepEqual(have, obj) {
		return "unchanged", nil
	}
	if _, err := c.st.Update(ctx, obj); err != nil {
		return "", err
	}
	return "configured", nil
}

func (c *changer) create(ctx context.Context, obj api.Object) (string, error) {
	obj.SetResourceVersion("")
	if _, err := c.st.Create(ctx, obj); err != nil {
		return "", err
	}
	return "created", nil
}

// keepIdentity gives the manifest's object what the datastore gave the stored one.
func keepIdentity(obj, have api.Object) {
	obj.SetUID(have.GetUID())
	obj.SetCreationTimestamp(have.GetCreationTimestamp())
	obj.SetGeneration(have.GetGeneration())
	obj.SetResourceVersion(have.GetResourceVersion())
	// What is being deleted stays so.
	obj.SetDeletionTimestamp(have.GetDeletionTimestamp())
	obj.SetFinalizers(have.GetFinalizers())
}
