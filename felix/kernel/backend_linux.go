// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-iptables/iptables"

	"korat/api"
	"korat/policy/chain"
)

// Backend is which of the kernel's two packet filters iptables' programs work on. Packets pass both.
type Backend string

// The backends, as FelixConfiguration's iptablesBackend names them.
const (
	NFT    Backend = "NFT"
	Legacy Backend = "Legacy"
)

// other gives the other one.
func (b Backend) other() Backend {
	if b == NFT {
		return Legacy
	}
	return NFT
}

// program gives the name of one of iptables' programs: "ip6tables-nft" and what is put behind it.
func (b Backend) program(f api.Family, suffix string) string {
	name := "iptables-"
	if f == api.IPv6 {
		name = "ip6tables-"
	}
	return name + strings.ToLower(string(b)) + suffix
}

// ChainsConfig says how chains are written.
type ChainsConfig struct {
	Backend Backend
	// LockFile is what programs of the legacy backend lock; /run/xtables.lock if empty.
	LockFile string
	// Patience is how long an answer of iptables-restore's is waited for; 20 seconds if 0. While another program holds
	// the lock it is waited for up to a minute.
	Patience time.Duration
	// Retry is how long what was refused is not tried again, which costs a program; 10 seconds if 0.
	Retry time.Duration
}

// filled has the default of the file that it leaves out.
func (c ChainsConfig) filled() ChainsConfig {
	if c.LockFile == "" {
		c.LockFile = "/run/xtables.lock"
	}
	return c
}

const defaultRetry = 10 * time.Second

func (c ChainsConfig) retry() time.Duration {
	if c.Retry == 0 {
		return defaultRetry
	}
	return c.Retry
}

func (c ChainsConfig) patience() time.Duration {
	if c.Patience == 0 {
		return defaultPatience
	}
	return c.Patience
}

func (c ChainsConfig) environment() []string {
	return append(os.Environ(), "LC_ALL=C", "XTABLES_LOCKFILE="+c.LockFile)
}

// Choice is a backend, with what was found.
type Choice struct {
	Backend Backend
	// Reason is why, and Warning what an operator should mend; empty if there is nothing.
	Reason, Warning string
}

// hints are chains that the kubelet makes in the mangle table of the backend that it finds in use.
var hints = [...]string{"KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY"}

// ChooseBackend gives the backend that is asked for by name, and for "Auto" or nothing the one that the host's other
// users have chosen: the kubelet by its hint, else who has more rules; NFT if nobody has any.
func (h *Handle) ChooseBackend(ctx context.Context, want string) (Choice, error) {
	switch want {
	case "", "Auto":
	case string(NFT), string(Legacy):
		return Choice{Backend: Backend(want), Reason: "configured"}, usable(Backend(want))
	default:
		return Choice{}, fmt.Errorf("iptables backend %q: not one of Auto, NFT, Legacy", want)
	}
	nft, nftErr := h.survey(ctx, NFT)
	legacy, legacyErr := h.survey(ctx, Legacy)
	switch {
	case nftErr != nil && legacyErr != nil:
		return Choice{}, errors.Join(nftErr, legacyErr)
	case nftErr != nil:
		return Choice{Backend: Legacy, Reason: "the other one can't be used: " + nftErr.Error()}, nil
	case legacyErr != nil:
		return Choice{Backend: NFT, Reason: "the other one can't be used: " + legacyErr.Error()}, nil
	}
	return choose(nft, legacy), nil
}

// survey is what others have in a backend.
type survey struct {
	// hint is the kubelet's chain.
	hint string
	// rules counts those of others.
	rules int
}

func choose(nft, legacy survey) Choice {
	c := Choice{Backend: NFT, Reason: "nobody else has rules"}
	switch {
	case nft.hint != "" && legacy.hint == "":
		c.Reason = "the kubelet's chain " + nft.hint + " is there"
	case legacy.hint != "" && nft.hint == "":
		c = Choice{Backend: Legacy, Reason: "the kubelet's chain " + legacy.hint + " is there"}
	case legacy.rules > nft.rules:
		c = Choice{Backend: Legacy, Reason: fmt.Sprintf("others have %d rules there, and %d in NFT", legacy.rules, nft.rules)}
	case nft.rules > 0:
		c.Reason = fmt.Sprintf("others have %d rules there, and %d in Legacy", nft.rules, legacy.rules)
	}
	if nft.hint != "" && legacy.hint != "" || nft.rules > 0 && legacy.rules > 0 {
		c.Warning = fmt.Sprintf("other programs use both of iptables' backends (%d rules in NFT, %d in Legacy), and a packet must "+
			"pass both: have all use one, and name it as FelixConfiguration's iptablesBackend", nft.rules, legacy.rules)
	}
	return c
}

// survey looks for the kubelet's hint, and counts others' rules.
func (h *Handle) survey(ctx context.Context, b Backend) (survey, error) {
	var s survey
	if err := usable(b); err != nil {
		return s, err
	}
	for _, f := range api.Families() {
		tables, err := h.existing(b, f)
		if err != nil {
			return s, err
		}
		if len(tables) == 0 {
			continue
		}
		if s.hint == "" && slices.Contains(tables, string(chain.Mangle)) {
			if s.hint, err = h.hint(b, f); err != nil {
				return s, err
			}
		}
		if err := h.save(ctx, ChainsConfig{Backend: b}, f, s.count); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (s *survey) count(_ chain.Table, line string) {
	if strings.HasPrefix(line, "-A ") && !ours(line) {
		s.rules++
	}
}

// existing gives the tables of a backend that may exist. To ask the legacy one for a table makes it.
func (h *Handle) existing(b Backend, f api.Family) ([]string, error) {
	if b == Legacy {
		return h.legacyTables(f)
	}
	return []string{string(chain.Mangle)}, nil
}

func (h *Handle) hint(b Backend, f api.Family) (string, error) {
	return answer(h, ChainsConfig{Backend: b}, func() (string, error) {
		tool, err := h.iptables(b, f)
		if err != nil {
			return "", err
		}
		for _, name := range hints {
			found, err := tool.ChainExists(string(chain.Mangle), name)
			if err != nil {
				return "", fmt.Errorf("look for the chain %s: %w", name, err)
			}
			if found {
				return name, nil
			}
		}
		return "", nil
	})
}

// iptables gives the means to run single commands.
func (h *Handle) iptables(b Backend, f api.Family) (*iptables.IPTables, error) {
	protocol := iptables.ProtocolIPv4
	if f == api.IPv6 {
		protocol = iptables.ProtocolIPv6
	}
	name := b.program(f, "")
	tool, err := iptables.New(iptables.IPFamily(protocol), iptables.Path(name), iptables.Timeout(int(lockPatience/time.Second)))
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", name, err)
	}
	return tool, nil
}

// maxStuck bounds the single commands that are under way, most of which nobody waits for any more.
const maxStuck = 8

// answer runs single commands of iptables in the Handle's namespace, which can't be ended from here, and gives up waiting
// for them after some time.
func answer[T any](h *Handle, c ChainsConfig, run func() (T, error)) (T, error) {
	var none T
	name, patience := c.Backend.program(api.IPv4, ""), c.patience()
	if c.Backend == Legacy {
		patience += lockPatience
	}
	if h.stuck.Load() >= maxStuck {
		return none, fmt.Errorf("%s: %d commands have not ended", name, maxStuck)
	}
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	h.stuck.Add(1)
	go func() {
		defer h.stuck.Add(-1)
		var r result
		r.err = h.inside(func() (err error) {
			r.value, err = run()
			return err
		})
		done <- r
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case r := <-done:
		return r.value, r.err
	case <-timer.C:
		return none, fmt.Errorf("%s: no answer for %s", name, patience)
	}
}

// usable says what is missing of a backend's programs.
func usable(b Backend) error {
	for _, f := range api.Families() {
		for _, suffix := range []string{"", "-save", "-restore"} {
			if _, err := exec.LookPath(b.program(f, suffix)); err != nil {
				return fmt.Errorf("iptables backend %s: install iptables: %w", b, err)
			}
		}
	}
	return nil
}

// legacyTables gives the names of the legacy backend's tables that exist. To ask iptables makes them exist.
func (h *Handle) legacyTables(f api.Family) ([]string, error) {
	names, err := h.legacyList(f, "names")
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // there is none while the module is not loaded
		return nil, fmt.Errorf("list the tables of iptables-legacy: %w", err)
	}
	return names, nil
}

// legacyList reads what the kernel tells of the legacy backend of a family: the names of its tables, or its matches.
func (h *Handle) legacyList(f api.Family, what string) ([]string, error) {
	family := "ip"
	if f == api.IPv6 {
		family = "ip6"
	}
	var b []byte
	err := h.inside(func() (err error) {
		b, err = os.ReadFile("/proc/thread-self/net/" + family + "_tables_" + what)
		return err
	})
	return strings.Fields(string(b)), err
}
