// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"

	"korat/api/store"
	"korat/api/store/etcd"
	"korat/cmd/koratctl/command"
)

// open makes the client of etcd. It connects at its first use.
func open(_ context.Context, d command.Datastore) (store.Store, func() error, error) {
	st, err := etcd.New(etcd.Config{
		Endpoints: d.Endpoints, CAFile: d.CA, CertFile: d.Cert, KeyFile: d.Key,
		Username: d.Username, PasswordFile: d.PasswordFile,
		Log: slog.New(slog.DiscardHandler), // what goes wrong comes back as an error
	})
	if err != nil {
		return nil, nil, err
	}
	return st, st.Close, nil
}
