// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// refusalHolds is how long a refused password is not tried again: each try costs etcd a bcrypt, and
// all nodes would do it at once.
const refusalHolds = 10 * time.Second

// user gives requests the token of an etcd user. etcd's own client would authenticate in its constructor,
// and fail with it while no server answers; it would never read a rotated password; and it would open
// watches with a token that has expired. A nil user adds nothing.
type user struct {
	name, passwordFile string
	timeout            time.Duration

	mu      sync.Mutex
	token   token
	refused refusal
	// turn holds one element while somebody authenticates.
	turn chan struct{}
}

// token is what etcd gave for the password; empty where authentication is not enabled.
type token struct {
	text string
	// number tells tokens apart; 0 is none.
	number int
}

type refusal struct {
	password string
	err      error
	at       time.Time
}

// newUser gives nil where the configuration names no user.
func newUser(cfg Config, timeout time.Duration) (*user, error) {
	if cfg.Username == "" && cfg.PasswordFile == "" {
		return nil, nil
	}
	if cfg.Username == "" || cfg.PasswordFile == "" {
		return nil, fmt.Errorf("user %q and password file %q: give both or none", cfg.Username, cfg.PasswordFile)
	}
	for _, e := range cfg.Endpoints {
		if strings.HasPrefix(e, "http://") && !onLoopback(e) {
			return nil, fmt.Errorf("endpoint %q: the password of user %q would cross the network unencrypted: use https://", e, cfg.Username)
		}
	}
	u := &user{name: cfg.Username, passwordFile: cfg.PasswordFile, timeout: timeout, turn: make(chan struct{}, 1)}
	_, err := u.password()
	return u, err
}

func onLoopback(endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && addr.IsLoopback()
}

// password reads the file anew, so that it can be rotated.
func (u *user) password() (string, error) {
	data, err := os.ReadFile(u.passwordFile)
	if err != nil {
		return "", fmt.Errorf("password of user %q: %w", u.name, err)
	}
	text := strings.TrimRight(string(data), "\r\n")
	if text == "" {
		return "", fmt.Errorf("password of user %q: %s is empty", u.name, u.passwordFile)
	}
	return text, nil
}

func (u *user) have() token {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.token
}

// renew gives a token other than the one numbered stale, and asks for one only if nobody else has.
func (u *user) renew(ctx context.Context, conn *grpc.ClientConn, stale int) (token, error) {
	ctx, cancel := context.WithTimeout(ctx, u.timeout)
	defer cancel()
	select {
	case u.turn <- struct{}{}:
		defer func() { <-u.turn }()
	case <-ctx.Done():
		return token{}, ctx.Err()
	}
	if t := u.have(); t.number != stale {
		return t, nil
	}
	text, err := u.authenticate(ctx, conn)
	if err != nil {
		return token{}, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.token = token{text, u.token.number + 1}
	return u.token, nil
}

// authenticate asks etcd for a token. The caller has the turn.
func (u *user) authenticate(ctx context.Context, conn *grpc.ClientConn) (string, error) {
	password, err := u.password()
	if err != nil {
		return "", err
	}
	if u.refused.password == password && time.Since(u.refused.at) < refusalHolds {
		return "", u.refused.err
	}
	resp, err := pb.NewAuthClient(conn).Authenticate(ctx, &pb.AuthenticateRequest{Name: u.name, Password: password})
	switch {
	case err == nil:
		u.refused = refusal{}
		return resp.Token, nil
	case says(err, rpctypes.ErrGRPCAuthNotEnabled):
		return "", nil
	case says(err, rpctypes.ErrGRPCAuthFailed):
		err = fmt.Errorf("etcd refuses user %q with the password in %s", u.name, u.passwordFile)
		u.refused = refusal{password, err, time.Now()}
	}
	return "", err
}

// current gives the token, and asks for the first one.
func (u *user) current(ctx context.Context, conn *grpc.ClientConn) (token, error) {
	if t := u.have(); t.number != 0 {
		return t, nil
	}
	return u.renew(ctx, conn, 0)
}

// unary adds the token to a request, and repeats it once with a new token. A request that etcd refused
// for its token had no effect.
func (u *user) unary() grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if u == nil || method == pb.Auth_Authenticate_FullMethodName {
			return invoke(ctx, method, req, reply, conn, opts...)
		}
		t, err := u.current(ctx, conn)
		if err != nil {
			return err
		}
		err = invoke(t.context(ctx), method, req, reply, conn, opts...)
		if !stale(err) {
			return err
		}
		if t, err = u.renew(ctx, conn, t.number); err != nil {
			return err
		}
		return invoke(t.context(ctx), method, req, reply, conn, opts...)
	}
}

// stream adds the token to a stream of watches. etcd looks at it when a watch is made.
func (u *user) stream(ctx context.Context, conn *grpc.ClientConn) (context.Context, error) {
	if u == nil {
		return ctx, nil
	}
	t, err := u.current(ctx, conn)
	return t.context(ctx), err
}

// number tells the token of the moment from others.
func (u *user) number() int {
	if u == nil {
		return 0
	}
	return u.have().number
}

func (t token) context(ctx context.Context) context.Context {
	if t.text == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, t.text)
}

// stale says whether a new token will help: this one has expired, or was given by a server that
// has restarted since, or before authentication was enabled.
func stale(err error) bool {
	return says(err, rpctypes.ErrGRPCInvalidAuthToken) || says(err, rpctypes.ErrGRPCUserEmpty) || says(err, rpctypes.ErrGRPCAuthOldRevision)
}

// says tells whether err is one of etcd's. A watch's error is text only.
func says(err, want error) bool {
	return err != nil && strings.Contains(err.Error(), rpctypes.ErrorDesc(want))
}

// refusedBy explains an error of etcd's access control, or gives nil.
func (s *Store) refusedBy(err error) error {
	who := "a client without user"
	if s.user != nil {
		who = fmt.Sprintf("user %q", s.user.name)
	}
	switch {
	case says(err, rpctypes.ErrGRPCPermissionDenied):
		return fmt.Errorf("etcd does not permit this to %s: grant a role that has it: %w", who, err)
	case says(err, rpctypes.ErrGRPCUserEmpty) && s.user == nil:
		return errors.New("etcd demands authentication: give a user and a password file, or a client certificate whose common name is a user")
	}
	return nil
}
