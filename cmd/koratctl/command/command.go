// SPDX-License-Identifier: Apache-2.0

// Package command is koratctl's command line: flags, arguments and exit codes. What the commands do is in
// manifest, change and show.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"korat/api/store"
	"korat/cmd/settings"
	"korat/cni-plugin/socket"
)

// The exit codes.
const (
	exitFailure = 1
	// exitUsage says that nothing was tried, because the command line makes no sense.
	exitUsage = 2
)

// DefaultConfigFile is read when it exists.
const DefaultConfigFile = "/etc/korat/koratctl.yaml"

// World is everything that a run of koratctl touches.
type World struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	LookupEnv      func(string) (string, bool)
	Now            func() time.Time
	// Wait returns after the pause, or with an error once the context is done.
	Wait func(context.Context, time.Duration) error
	// Open connects to the datastore; the returned function lets go of it.
	Open func(context.Context, Datastore) (store.Store, func() error, error)
	// Version is koratctl's own.
	Version string
}

// Datastore says where the datastore is and how to be let in.
type Datastore struct {
	Kind          string
	Endpoints     []string
	CA, Cert, Key string
	// Username and PasswordFile are a user of etcd's.
	Username, PasswordFile string
}

// Run runs one command and gives its exit code.
func Run(ctx context.Context, args []string, w World) int {
	c := &ctl{World: w}
	root := c.root()
	root.SetArgs(args)
	root.SetIn(w.Stdin)
	root.SetOut(w.Stdout)
	root.SetErr(w.Stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	var exit *exitError
	if errors.As(err, &exit) {
		if exit.error != nil {
			fmt.Fprintln(w.Stderr, "koratctl:", exit.error)
		}
		return exit.code
	}
	fmt.Fprintln(w.Stderr, "koratctl:", err)
	var usage *usageError
	if c.started && !errors.As(err, &usage) {
		return exitFailure
	}
	fmt.Fprintf(w.Stderr, "See %s --help.\n", cmd.CommandPath())
	return exitUsage
}

// usageError is an error of the command line.
type usageError struct{ error }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// ctl is the state of one run: the values of the flags that all commands have.
type ctl struct {
	World
	datastore Datastore
	config    string
	socket    string
	timeout   time.Duration
	// started is set once flags and arguments have been taken: what fails later is no usage error.
	started bool
}

func (c *ctl) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "koratctl",
		Short: "Read and change a korat cluster, and ask a node how it is",
		Long: `Read and change a korat cluster, and ask a node how it is.

Every flag that all commands have can also be set by an environment variable (--etcd-endpoints:
KORAT_ETCD_ENDPOINTS) and in a YAML file (etcd-endpoints: …). The command line wins over the environment,
and that over the file. Exit codes: 1 something failed, 2 the command line makes no sense;
explain has its own.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usagef("say which command: apply, create, replace, delete, get, label, explain, flows, policy, ipam, node or version")
		},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			c.started = true
			return settings.Fill(cmd.Root().PersistentFlags(), c.config, c.LookupEnv)
		},
	}
	f := root.PersistentFlags()
	f.StringVar(&c.config, settings.Config, DefaultConfigFile, "YAML file with the names of flags as keys")
	f.StringVar(&c.datastore.Kind, "datastore", "etcd", "etcd, or embedded: the etcd server inside an agent, reached in the same way")
	f.StringSliceVar(&c.datastore.Endpoints, "etcd-endpoints", []string{"http://127.0.0.1:2379"}, "URLs of the etcd servers")
	f.StringVar(&c.datastore.CA, "etcd-ca", "", "file with the CA certificates of etcd's servers")
	f.StringVar(&c.datastore.Cert, "etcd-cert", "", "file with the certificate to show to etcd")
	f.StringVar(&c.datastore.Key, "etcd-key", "", "file with that certificate's private key")
	f.StringVar(&c.datastore.Username, "etcd-username", "", "user of etcd's, where it demands authentication")
	f.StringVar(&c.datastore.PasswordFile, "etcd-password-file", "", "file with that user's password")
	f.StringVar(&c.socket, "agent-socket", socket.DefaultPath, "the agent's socket on this node, for node status, flows, explain and policy order")
	f.DurationVar(&c.timeout, "timeout", 10*time.Second, "how long the datastore or the agent may take")
	root.AddCommand(c.changes()...)
	root.AddCommand(c.get(), c.label(), c.explainCommand(), c.flows(), c.policy(), c.ipam(), c.node(), c.versionCommand())
	return root
}

// withStore runs do on the datastore, within the timeout.
func (c *ctl) withStore(ctx context.Context, do func(context.Context, store.Store) error) error {
	ctx, cancel, err := c.limited(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	if err := c.datastore.check(); err != nil {
		return err
	}
	st, closeStore, err := c.Open(ctx, c.datastore)
	if err != nil {
		return fmt.Errorf("open the datastore: %w", err)
	}
	return errors.Join(c.explain(ctx, do(ctx, st)), closeStore())
}

// limited gives a context that ends with the timeout.
func (c *ctl) limited(ctx context.Context) (context.Context, context.CancelFunc, error) {
	if c.timeout <= 0 {
		return nil, nil, fmt.Errorf("--timeout: %s: must be above zero", c.timeout)
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	return ctx, cancel, nil
}

// explain adds what to do about a datastore that did not answer.
func (c *ctl) explain(ctx context.Context, err error) error {
	if err != nil && (ctx.Err() != nil || errors.Is(err, store.ErrUnavailable)) {
		return fmt.Errorf("%w\ncheck that etcd runs at %s; --etcd-endpoints says where it is, and https needs --etcd-ca, --etcd-cert and --etcd-key",
			err, strings.Join(c.datastore.Endpoints, ", "))
	}
	return err
}

func (d Datastore) check() error {
	switch {
	case d.Kind != "etcd" && d.Kind != "embedded":
		return fmt.Errorf("--datastore: %q: use etcd or embedded", d.Kind)
	case len(d.Endpoints) == 0:
		return errors.New("--etcd-endpoints: give at least one URL")
	case (d.Cert == "") != (d.Key == ""):
		return errors.New("--etcd-cert, --etcd-key: give both or neither")
	case (d.Username == "") != (d.PasswordFile == ""):
		return errors.New("--etcd-username, --etcd-password-file: give both or neither")
	}
	return nil
}
