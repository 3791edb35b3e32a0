// SPDX-License-Identifier: Apache-2.0

package change

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"korat/api"
	"korat/api/store"
	"korat/ipam/block"
)

// maxNodes is how many nodes a message names.
const maxNodes = 10

// removePool deletes a pool of which no address is in use. Another one is marked as being deleted: it gives out no more
// addresses, its nodes give its blocks back as they become empty, and the last of them removes it.
func removePool(ctx context.Context, st store.Store, obj api.Object, now time.Time) (string, error) {
	for range tries {
		done, err := removePoolOnce(ctx, st, obj, now)
		if !errors.Is(err, store.ErrConflict) || obj.GetResourceVersion() != "" {
			return done, err
		}
	}
	return "", fmt.Errorf("%s: was changed by others %d times in a row: try again", obj.Key(), tries)
}

func removePoolOnce(ctx context.Context, st store.Store, obj api.Object, now time.Time) (string, error) {
	have, err := st.Get(ctx, obj.Key())
	if errors.Is(err, store.ErrNotFound) {
		return "", fmt.Errorf("delete %s: %w", obj.Key(), store.ErrNotFound)
	}
	if err != nil {
		return "", err
	}
	pool, ok := have.(*api.IPPool)
	if !ok {
		return "", fmt.Errorf("%s is stored as a %T", obj.Key(), have)
	}
	if given := obj.GetResourceVersion(); given != "" && given != pool.ResourceVersion {
		return "", fmt.Errorf("%s: metadata.resourceVersion %s: %w", obj.Key(), given, store.ErrConflict)
	}
	u, err := useOf(ctx, st, pool)
	if err != nil {
		return "", err
	}
	// Blocks that are empty now may be assigned from at this moment: first no more, then a second look.
	if u.blocks > 0 && !pool.Terminating() {
		if pool, err = terminate(ctx, st, pool, now); err != nil {
			return "", err
		}
		if u, err = useOf(ctx, st, pool); err != nil {
			return "", err
		}
	}
	if u.held > 0 {
		return u.terminating(), nil
	}
	if err := st.Delete(ctx, pool.Key(), pool.ResourceVersion); err != nil {
		return "", err
	}
	return "deleted", nil
}

// terminate marks a pool as being deleted, as Kubernetes does with an object that has a finalizer.
func terminate(ctx context.Context, st store.Writer, pool *api.IPPool, now time.Time) (*api.IPPool, error) {
	next := pool.DeepCopy()
	next.DeletionTimestamp = &metav1.Time{Time: now.UTC().Truncate(time.Second)}
	if !slices.Contains(next.Finalizers, api.PoolFinalizer) {
		next.Finalizers = append(next.Finalizers, api.PoolFinalizer)
	}
	stored, err := st.Update(ctx, next)
	if err != nil {
		return nil, err
	}
	marked, ok := stored.(*api.IPPool)
	if !ok {
		return nil, fmt.Errorf("%s is stored as a %T", pool.Key(), stored)
	}
	return marked, nil
}

// use is what of a pool is in use.
type use struct {
	blocks int
	// held counts addresses, and nodes says on which nodes they are.
	held  int
	nodes map[string]int
}

// useOf looks at the pool's blocks. An address that cools down counts as in use; one that a node has leased for pods
// to come does not.
func useOf(ctx context.Context, st store.Reader, pool *api.IPPool) (use, error) {
	u := use{nodes: map[string]int{}}
	cidr, err := netip.ParsePrefix(pool.Spec.CIDR)
	if err != nil {
		return u, nil // it has no blocks
	}
	objs, _, err := st.List(ctx, api.KindIPAMBlock)
	if err != nil {
		return u, err
	}
	for _, obj := range objs {
		blk, ok := obj.(*api.IPAMBlock)
		if !ok {
			continue
		}
		if p, err := netip.ParsePrefix(blk.Spec.CIDR); err != nil || !cidr.Overlaps(p) {
			continue
		}
		u.blocks++
		u.add(blk)
	}
	return u, nil
}

func (u *use) add(blk *api.IPAMBlock) {
	owner := "(none)"
	if blk.Spec.Affinity != nil {
		owner = strings.TrimPrefix(*blk.Spec.Affinity, api.AffinityHost+":")
	}
	b, err := block.From(blk.Spec)
	if err != nil { // what can't be read may be in use
		u.held++
		u.nodes[owner]++
		return
	}
	for _, al := range b.All() {
		if !al.Leased() {
			u.held++
			u.nodes[cmp.Or(al.Attrs["node"], owner)]++
		}
	}
}

// terminating says what becomes of a pool with addresses in use.
func (u *use) terminating() string {
	names := slices.SortedFunc(maps.Keys(u.nodes), func(a, b string) int {
		return cmp.Or(u.nodes[b]-u.nodes[a], strings.Compare(a, b))
	})
	var parts []string
	for _, name := range names[:min(len(names), maxNodes)] {
		parts = append(parts, fmt.Sprintf("%d on %s", u.nodes[name], name))
	}
	if more := len(names) - maxNodes; more > 0 {
		parts = append(parts, fmt.Sprintf("others on %d more nodes", more))
	}
	return fmt.Sprintf("terminating: %d of its addresses are in use or cool down (%s); no more are given out, and it goes once its blocks are empty. "+
		"Remove the pods that have them (koratctl ipam show --show-blocks). With --force it goes at once, and other nodes can't reach those pods any more",
		u.held, strings.Join(parts, ", "))
}
