// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"korat/api"
	"korat/api/store"
	"korat/api/store/memory"
	"korat/cni-plugin/socket"
)

// world is what one script's runs of koratctl share.
type world struct {
	store *memory.Store
	// race, when set, changes the object behind the command's back at its next write.
	race bool
	// later is what somebody writes while a command waits.
	later []api.Object
}

type worldKey struct{}

// TestScripts runs testdata/*.txtar. The scripts have, beside testscript's own commands,
//
//	koratctl ARG... [<FILE]   run koratctl on the script's own datastore in memory
//	code N                    the exit code of the last koratctl
//	race                      let somebody else change the object at the next write
//	seed FILE                 put objects into the datastore as the agents do
//	later FILE                do that, or replace them, when a command next waits
//	agent FILE                answer one request on $WORK/agent.sock with the file
//	stream FILE               answer one on $WORK/agent.sock with each line of the file, and hang up
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Values[worldKey{}] = &world{store: memory.New()}
			env.Setenv("KORAT_AGENT_SOCKET", filepath.Join(env.WorkDir, "agent.sock")) // not this machine's
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"koratctl": koratctl, "code": code, "agent": agent, "stream": stream, "seed": seed, "later": later,
			"race": func(ts *testscript.TestScript, _ bool, _ []string) { worldOf(ts).race = true },
		},
	})
}

func worldOf(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }

func koratctl(ts *testscript.TestScript, neg bool, args []string) {
	var stdin io.Reader = strings.NewReader("")
	if last := len(args) - 1; last >= 0 && strings.HasPrefix(args[last], "<") {
		stdin = strings.NewReader(ts.ReadFile(args[last][1:]))
		args = args[:last]
	}
	w := worldOf(ts)
	// The scripts name files relative to their own folder.
	for i, a := range args {
		if i > 0 && args[i-1] == "-f" && a != "-" {
			args[i] = ts.MkAbs(a)
		}
	}
	config := ts.MkAbs("koratctl.yaml")
	if _, err := os.Stat(config); err != nil {
		config = os.DevNull // not this machine's
	}
	exit := Run(context.Background(), append([]string{"--config", config}, args...), World{
		Stdin: stdin, Stdout: ts.Stdout(), Stderr: ts.Stderr(), Version: "v1.2.3",
		LookupEnv: func(name string) (string, bool) { v := ts.Getenv(name); return v, v != "" },
		Now:       func() time.Time { return time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC) },
		Wait:      w.wait,
		Open:      w.open,
	})
	ts.Setenv("code", strconv.Itoa(exit))
	if (exit != 0) != neg {
		ts.Fatalf("koratctl %s: exit code %d", strings.Join(args, " "), exit)
	}
}

func code(ts *testscript.TestScript, _ bool, args []string) {
	if have := ts.Getenv("code"); have != args[0] {
		ts.Fatalf("exit code: have %s, want %s", have, args[0])
	}
}

func seed(ts *testscript.TestScript, _ bool, args []string) {
	objs, err := api.Decode([]byte(ts.ReadFile(args[0])))
	ts.Check(err)
	for _, obj := range objs {
		api.Default(obj)
		_, err := worldOf(ts).store.Create(context.Background(), obj)
		ts.Check(err)
	}
}

func later(ts *testscript.TestScript, _ bool, args []string) {
	objs, err := api.Decode([]byte(ts.ReadFile(args[0])))
	ts.Check(err)
	worldOf(ts).later = objs
}

// wait lets somebody else write.
func (w *world) wait(ctx context.Context, _ time.Duration) error {
	for _, obj := range w.later {
		api.Default(obj)
		have, err := w.store.Get(ctx, obj.Key())
		if errors.Is(err, store.ErrNotFound) {
			_, err = w.store.Create(ctx, obj)
		} else if err == nil {
			obj.SetUID(have.GetUID())
			obj.SetResourceVersion(have.GetResourceVersion())
			_, err = w.store.Update(ctx, obj)
		}
		if err != nil {
			return err
		}
	}
	w.later = nil
	return nil
}

func (w *world) open(_ context.Context, d Datastore) (store.Store, func() error, error) {
	if d.Endpoints[0] == "http://absent:2379" {
		return nil, nil, errors.New("no such host: absent")
	}
	return &racing{w.store, w}, func() error { return nil }, nil
}

// racing is a store on which somebody else is faster now and then.
type racing struct {
	*memory.Store
	world *world
}

func (r *racing) Update(ctx context.Context, obj api.Object) (api.Object, error) {
	if r.world.race {
		r.world.race = false
		have, err := r.Get(ctx, obj.Key())
		if err != nil {
			return nil, err
		}
		other := have.DeepCopyObject()
		other.SetLabels(map[string]string{"by": "another"})
		if _, err := r.Store.Update(ctx, other); err != nil {
			return nil, err
		}
	}
	return r.Store.Update(ctx, obj)
}

// agent answers one request as korat-node would.
func agent(ts *testscript.TestScript, _ bool, args []string) {
	answer(ts, socket.Reply{Status: json.RawMessage(ts.ReadFile(args[0]))})
}

// stream answers one with a stream.
func stream(ts *testscript.TestScript, _ bool, args []string) {
	replies := []socket.Reply{{}}
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		replies = append(replies, socket.Reply{Status: json.RawMessage(line)})
	}
	answer(ts, replies...)
}

func answer(ts *testscript.TestScript, replies ...socket.Reply) {
	path := filepath.Join(ts.Getenv("WORK"), "agent.sock")
	ts.Check(os.RemoveAll(path))
	ln, err := net.Listen("unix", path)
	ts.Check(err)
	done := make(chan error, 1)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			done <- err
			return
		}
		var req socket.Request
		err = json.NewDecoder(conn).Decode(&req)
		for _, r := range replies {
			err = errors.Join(err, json.NewEncoder(conn).Encode(r))
		}
		done <- errors.Join(err, conn.Close())
	}()
	ts.Defer(func() {
		ts.Check(ln.Close())
		ts.Check(<-done)
	})
}
