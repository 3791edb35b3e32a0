// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"korat/api"
)

const (
	// groupMatch is the match of an interface's link group, in iptables' words and in the kernel's (xt_devgroup).
	groupMatch = "devgroup"
	// groupTest has iptables-restore read a rule with it, and do nothing.
	groupTest = "*filter\n:cali-probe - [0:0]\n-A cali-probe -m " + groupMatch + " --src-group 0x1 -j DROP\nCOMMIT\n"
)

// What linux/netfilter/nf_tables_compat.h has: the question for a match.
const (
	compatSubsystem, compatGet           = 11, 0
	compatName, compatRevision, compatOf = 1, 2, 3
)

// MatchesGroups says why rules of a backend can't match the link groups of interfaces; nil if they can. Both must know
// how: iptables' program and the kernel, which loads its module when it is asked. The program alone is no proof, as it
// only warns of what the kernel lacks.
func (h *Handle) MatchesGroups(ctx context.Context, c ChainsConfig, f api.Family) error {
	c = c.filled()
	if err := h.testRule(ctx, c, f, groupTest); err != nil {
		return err
	}
	ask := h.legacyMatch
	if c.Backend == NFT {
		ask = h.nftMatch
	}
	if err := ask(f, groupMatch); err != nil {
		return fmt.Errorf("ask the kernel for the match %s (%s, %s): %w", groupMatch, f, c.Backend, err)
	}
	return nil
}

// lacksResources is iptables' exit status if somebody else has the lock all the time, or there is no memory.
const lacksResources = 4

// fleeting says that an error of MatchesGroups is no answer: the next one may be another.
func fleeting(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.ExitCode() == lacksResources || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// testRule has iptables-restore read a text.
func (h *Handle) testRule(ctx context.Context, c ChainsConfig, f api.Family, text string) error {
	patience := c.patience()
	if c.Backend == Legacy {
		patience += lockPatience
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	name := c.Backend.program(f, "-restore")
	cmd := exec.CommandContext(ctx, name, "--test", "--noflush", "-w", fmt.Sprint(int(lockPatience/time.Second)))
	complaint := &complaint{}
	cmd.Env, cmd.Stdin, cmd.Stderr, cmd.WaitDelay = c.environment(), strings.NewReader(text), complaint, time.Second
	err := h.inside(cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("run %s --test: %w: %s", name, err, essence(complaint.String()))
	}
	return nil
}

// nftMatch asks nftables' layer for matches of iptables.
func (h *Handle) nftMatch(f api.Family, name string) error {
	c, err := h.dialInside(unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer unix.Close(c.fd)
	return c.get(func(b *buffer) {
		b.beginNetfilter(compatSubsystem, compatGet, 0, familyNumber(f), 0)
		b.attrString(compatName, name)
		b.attrBig32(compatRevision, 0)
		b.attrBig32(compatOf, 0) // a match, not a target
	}, func(message) {})
}

// legacyMatch looks among the matches that the kernel has for the legacy tables. The program has asked it for this one
// before, so that it is there if it can be.
func (h *Handle) legacyMatch(f api.Family, name string) error {
	matches, err := h.legacyList(f, "matches")
	if err == nil && !slices.Contains(matches, name) {
		err = unix.ENOENT
	}
	return err
}
