// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// course notices a datastore that went back: one restored from a backup, or another one at the same
// address. Revision and raft term of linearizable answers never decrease, and the cluster's
// ID never changes, whichever member answers. A watch that resumed across such a step would
// silently miss what differs.
type course struct {
	log *slog.Logger

	mu   sync.Mutex
	last point
	// present is done when the datastore has gone back.
	present context.Context
	leave   context.CancelFunc
}

// point is a datastore's place in time, as etcd's answers give it.
type point struct {
	cluster, term uint64
	revision      int64
}

func newCourse(log *slog.Logger) *course {
	c := &course{log: log}
	c.present, c.leave = context.WithCancel(context.Background())
	return c
}

// now gives the last point, and what is done once the datastore has gone back from it.
func (c *course) now() (point, context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last, c.present
}

// observe takes the point of an answer to a request that was sent when now gave before and present.
func (c *course) observe(before point, present context.Context, have point) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.present != present {
		return // somebody has noticed; this answer may be from either side
	}
	if before.cluster != 0 && before.cluster != have.cluster || have.term < before.term || have.revision < before.revision {
		c.log.Warn("the datastore is another one or went back in time, as one restored from a backup: everything is read again",
			"revision", have.revision, "revision_before", before.revision,
			"cluster", fmt.Sprintf("%x", have.cluster), "cluster_before", fmt.Sprintf("%x", before.cluster))
		c.leave()
		c.present, c.leave = context.WithCancel(context.Background())
		c.last = have
		return
	}
	c.last = point{have.cluster, max(c.last.term, have.term), max(c.last.revision, have.revision)}
}

// unary observes the answers to reads and writes, which are all linearizable.
func (c *course) unary() grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		before, present := c.now()
		if err := invoke(ctx, method, req, reply, conn, opts...); err != nil {
			return err
		}
		if method == pb.Auth_Authenticate_FullMethodName {
			return nil // its revision is not the keys'
		}
		if r, ok := reply.(interface{ GetHeader() *pb.ResponseHeader }); ok {
			h := r.GetHeader()
			c.observe(before, present, point{h.GetClusterId(), h.GetRaftTerm(), h.GetRevision()})
		}
		return nil
	}
}
