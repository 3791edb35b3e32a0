// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	gobgp "github.com/osrg/gobgp/v3/api"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Speaker gives paths to the host's speaker past its agent, with GoBGP's API.
type Speaker struct{ api gobgp.GobgpApiClient }

// Dial connects.
func (s *Speaker) Dial(socket string, _ *Nothing) error {
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("dial speaker: %w", err)
	}
	s.api = gobgp.NewGobgpApiClient(conn)
	return nil
}

// Originated is a path to add or to take away.
type Originated struct {
	Prefix  netip.Prefix
	Present bool
}

// Set adds or deletes the path, and says when the call began.
func (s *Speaker) Set(o Originated, at *time.Duration) error {
	path, err := pathTo(o.Prefix)
	if err != nil {
		return err
	}
	if *at, err = now(); err != nil {
		return err
	}
	ctx := context.Background()
	if o.Present {
		_, err = s.api.AddPath(ctx, &gobgp.AddPathRequest{TableType: gobgp.TableType_GLOBAL, Path: path})
	} else {
		_, err = s.api.DeletePath(ctx, &gobgp.DeletePathRequest{TableType: gobgp.TableType_GLOBAL, Family: path.Family, Path: path})
	}
	if err != nil {
		return fmt.Errorf("set path to %s: %w", o.Prefix, err)
	}
	return nil
}

func pathTo(p netip.Prefix) (*gobgp.Path, error) {
	path := &gobgp.Path{Family: &gobgp.Family{Afi: gobgp.Family_AFI_IP, Safi: gobgp.Family_SAFI_UNICAST}}
	var err error
	path.Nlri, err = anypb.New(&gobgp.IPAddressPrefix{PrefixLen: uint32(p.Bits()), Prefix: p.Addr().String()})
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", p, err)
	}
	for _, m := range []proto.Message{&gobgp.OriginAttribute{}, &gobgp.NextHopAttribute{NextHop: "0.0.0.0"}} {
		attr, err := anypb.New(m)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", p, err)
		}
		path.Pattrs = append(path.Pattrs, attr)
	}
	return path, nil
}
