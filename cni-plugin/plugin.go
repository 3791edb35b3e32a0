// SPDX-License-Identifier: Apache-2.0

// Package cniplugin is the CNI plugin: it asks the agent for an address, makes the pod's interface and
// says so to the agent, which answers when the pod's routes are in the kernel. It holds no state and no
// credentials, execs nothing, and knows no datastore.
//
// cmd/korat calls it, as does nothing else. Open add.go first.
package cniplugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"korat/cni-plugin/podnet"
	"korat/cni-plugin/socket"
)

// Plugin does one command and exits with the process.
type Plugin struct {
	// Version is korat's own, for people.
	Version string
	Getenv  func(string) string
	Stdout  io.Writer
	Stderr  io.Writer

	// cniVersion is the configuration's, once it has been read.
	cniVersion string
}

// Main does the command that the environment names, as the CNI specification says: configuration on
// standard input, result or error on standard output. It returns the process's exit code.
func (p *Plugin) Main() int {
	failed := checkEnvironment(p.Getenv)
	if failed == nil {
		failed = skel.PluginMainFuncsWithError(p.funcs(), supportedVersions(), "CNI plugin korat "+p.Version)
	}
	if failed == nil {
		return 0
	}
	if err := p.printError(failed); err != nil {
		fmt.Fprintf(p.Stderr, "korat: print the error %q: %v\n", failed.Error(), err)
	}
	return 1
}

func (p *Plugin) funcs() skel.CNIFuncs {
	return skel.CNIFuncs{
		Add:    func(args *skel.CmdArgs) error { return asCNI(p.add(args)) },
		Del:    func(args *skel.CmdArgs) error { return asCNI(p.del(args)) },
		Check:  func(args *skel.CmdArgs) error { return asCNI(p.check(args)) },
		GC:     func(args *skel.CmdArgs) error { return asCNI(p.gc(args)) },
		Status: func(args *skel.CmdArgs) error { return asCNI(p.status(args)) },
	}
}

func supportedVersions() version.PluginInfo {
	return version.PluginSupports("0.3.1", "0.4.0", "1.0.0", "1.1.0")
}

// printError prints what skel's own printing leaves out, too: the version. (CNI spec, section 5, Error)
func (p *Plugin) printError(e *types.Error) error {
	shown := p.cniVersion
	if shown == "" {
		shown = version.Current()
	}
	enc := json.NewEncoder(p.Stdout)
	enc.SetIndent("", "    ")
	return enc.Encode(struct {
		CNIVersion string `json:"cniVersion"`
		*types.Error
	}{shown, e})
}

// config reads the configuration. It is usable even if it has an error.
func (p *Plugin) config(data []byte) (Config, *types.Error) {
	conf, err := ParseConfig(data)
	p.cniVersion = conf.CNIVersion
	return conf, err
}

// input reads what ADD and CHECK are given, and refuses it if any of it is wrong.
func (p *Plugin) input(args *skel.CmdArgs) (Config, Args, error) {
	conf, confErr := p.config(args.StdinData)
	if confErr != nil {
		return conf, Args{}, confErr
	}
	pod, argsErr := ParseArgs(args.Args, args.ContainerID)
	if argsErr != nil {
		return conf, pod, argsErr
	}
	for _, addr := range pod.Addresses {
		reason := conf.IPAM.refusal(addr)
		if other := sameFamily(conf.Asked.Addresses, addr); other.IsValid() && other != addr {
			reason = fmt.Sprintf("the network configuration asks for %s: give one of them", other)
		}
		if reason != "" {
			return conf, pod, types.NewError(socket.CodeInvalidEnv, fmt.Sprintf("CNI_ARGS: IP=%s: %s", addr, reason), "")
		}
	}
	return conf, pod, podnet.CheckNetNS(args.Netns)
}

func (p *Plugin) logger(conf Config, args *skel.CmdArgs) *slog.Logger {
	handler := slog.NewTextHandler(p.Stderr, &slog.HandlerOptions{Level: conf.LogLevel})
	return slog.New(handler).With("container", args.ContainerID, "interface", args.IfName)
}

// asCNI gives an error its code.
func asCNI(err error) error {
	var own *types.Error
	var agents *socket.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &own):
		return own
	case errors.As(err, &agents):
		e := &types.Error{Code: agents.Code, Msg: agents.Message, Details: agents.Details}
		if plain := err.Error(); plain != agents.Error() {
			e.Details = plain
		}
		return e
	case errors.Is(err, podnet.ErrNoNetNS), errors.Is(err, podnet.ErrNotNetNS), errors.Is(err, podnet.ErrOwnNetNS):
		return types.NewError(socket.CodeInvalidEnv, "CNI_NETNS: "+err.Error(), "it must be the path of the container's network namespace, such as /run/netns/NAME or /proc/PID/ns/net")
	default:
		return types.NewError(socket.CodeInternal, err.Error(), "")
	}
}

// retryPause is the pause before a conversation with the agent is held again.
const retryPause = 50 * time.Millisecond

// withAgent holds a conversation with the agent, again and again while the agent goes away in its
// middle, until ctx ends.
func withAgent(ctx context.Context, path string, talk func(*socket.Conn) error) error {
	for {
		conn, err := socket.Dial(ctx, path)
		if err != nil {
			return err
		}
		err = talk(conn)
		_ = conn.Close()
		if !errors.Is(err, socket.ErrBroken) {
			return err
		}
		timer := time.NewTimer(retryPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return &socket.Error{
				Code:    socket.CodeTryAgainLater,
				Message: "the agent on " + path + " goes away before it answers: see korat-node's log",
				Details: err.Error(),
			}
		}
	}
}
