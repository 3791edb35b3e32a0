// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"log/slog"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"korat/api"
	"korat/api/store"
	"korat/api/store/etcd/embedded"
)

// Etcd is an etcd server in this process, and a client that fills it.
type Etcd struct {
	server  *embedded.Server
	client  *clientv3.Client
	cluster crowd
}

const (
	// putsPerTransaction is etcd's limit for one transaction.
	putsPerTransaction = 128
	etcdTimeout        = 10 * time.Second
)

// Serve starts the server on loopback and gives its URL.
func (e *Etcd) Serve(dir string, url *string) error {
	var err error
	e.server, err = embedded.Start(context.Background(), embedded.Config{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	*url = e.server.Endpoint()
	e.client, err = clientv3.New(clientv3.Config{Endpoints: []string{*url}, DialTimeout: etcdTimeout})
	if err != nil {
		return fmt.Errorf("connect to etcd: %w", err)
	}
	return nil
}

// Crowd is the size of a simulated cluster.
type Crowd struct{ Nodes, PodsPerNode int }

// Fill writes a cluster's objects.
func (e *Etcd) Fill(size Crowd, _ *Nothing) error {
	e.cluster = crowd{size, time.Now()}
	return e.fill(e.cluster.objects())
}

// FillInput writes what the policy benchmark's datastore has.
func (e *Etcd) FillInput(in Input, _ *Nothing) error {
	e.cluster.born = time.Now()
	return e.fill(in.objects())
}

func (e *Etcd) fill(objects iter.Seq2[api.Object, error]) error {
	var puts []clientv3.Op
	for obj, err := range objects {
		if err != nil {
			return fmt.Errorf("fill datastore: %w", err)
		}
		put, err := putOf(store.Stamp(obj, e.cluster.born))
		if err != nil {
			return fmt.Errorf("fill datastore: %w", err)
		}
		if puts = append(puts, put); len(puts) == putsPerTransaction {
			if err := e.commit(puts); err != nil {
				return err
			}
			puts = puts[:0]
		}
	}
	return e.commit(puts)
}

func (e *Etcd) commit(puts []clientv3.Op) error {
	ctx, cancel := context.WithTimeout(context.Background(), etcdTimeout)
	defer cancel()
	if _, err := e.client.Txn(ctx).Then(puts...).Commit(); err != nil {
		return fmt.Errorf("write to datastore: %w", err)
	}
	return nil
}

// Change is a node's object to change.
type Change struct {
	Kind api.Kind
	Node int
}

// Change changes an object.
func (e *Etcd) Change(c Change, _ *Nothing) error {
	obj, err := e.cluster.changed(c.Kind, c.Node)
	if err != nil {
		return err
	}
	put, err := putOf(store.Stamp(obj, e.cluster.born))
	if err != nil {
		return err
	}
	return e.commit([]clientv3.Op{put})
}

// ChangedPolicy is one of the input's policies, which becomes another.
type ChangedPolicy struct {
	Input
	Policy, Variant int
}

// ChangePolicy writes it, and says when that began.
func (e *Etcd) ChangePolicy(c ChangedPolicy, at *time.Duration) error {
	put, err := putOf(store.Stamp(c.policy(c.Policy, c.Variant), e.cluster.born))
	if err != nil {
		return err
	}
	if *at, err = now(); err != nil {
		return err
	}
	return e.commit([]clientv3.Op{put})
}

// putOf writes an object where package etcd keeps it. (A Store's Create is one request for each.)
func putOf(obj api.Object) (clientv3.Op, error) {
	value, err := json.Marshal(obj)
	if err != nil {
		return clientv3.Op{}, fmt.Errorf("encode %s: %w", obj.Key(), err)
	}
	key, namespace := obj.Key(), "_"
	if key.Namespace != "" {
		namespace = key.Namespace
	}
	return clientv3.OpPut("/korat/v1/"+string(key.Kind)+"/"+namespace+"/"+key.Name, string(value)), nil
}
