// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/coreos/go-iptables/iptables"

	"korat/policy/chain"
	"korat/policy/render"
)

// list asks for one chain.
func (s *side) list(p place, ask func(*iptables.IPTables, string, string) ([]string, error)) (lines []string, found bool, err error) {
	if s.tool == nil {
		s.tool, err = answer(s.h, s.config, func() (*iptables.IPTables, error) { return s.h.iptables(s.config.Backend, s.family) })
		if err != nil {
			return nil, false, err
		}
	}
	tool := s.tool
	lines, err = answer(s.h, s.config, func() ([]string, error) { return ask(tool, string(p.table), p.name) })
	var failed *iptables.Error
	// iptables-nft 1.8.9 calls a chain that does not exist incompatible.
	if errors.As(err, &failed) && (failed.IsNotExist() || strings.Contains(failed.Error(), "is incompatible")) {
		return nil, false, nil
	}
	return lines, err == nil, err
}

// cutCommand gives the chain's name of the line with which a listing of one chain begins ("-N cali-FORWARD",
// "-P FORWARD ACCEPT").
func cutCommand(line string) (name string, ok bool) {
	words := strings.Fields(line)
	if len(words) < 2 || words[0] != "-N" && words[0] != "-P" {
		return "", false
	}
	return words[1], true
}

func (s *side) counters(ctx context.Context, k chain.Key) ([]RuleCounter, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	lines, _, err := s.list(place{k.Table, k.Name}, (*iptables.IPTables).ListWithCounters)
	if err != nil {
		return nil, fmt.Errorf("counters of %s: %w", k, err)
	}
	var counters []RuleCounter
	for _, line := range lines {
		if !strings.HasPrefix(line, "-A ") {
			continue
		}
		c := RuleCounter{ID: render.OwnID(line)}
		if c.Packets, c.Bytes, err = countersOf(line); err != nil {
			return nil, fmt.Errorf("counters of %s: %w", k, err)
		}
		counters = append(counters, c)
	}
	return counters, nil
}

// countersOf finds "-c PACKETS BYTES" in a rule. A comment has no say in it: its words stand in quotation marks, and
// there is no other option of that name.
func countersOf(line string) (packets, bytes uint64, err error) {
	var words []string
	for i, part := range strings.Split(line, `"`) {
		if outside := i%2 == 0; outside {
			words = append(words, strings.Fields(part)...)
		}
	}
	for i := 0; i+2 < len(words); i++ {
		if words[i] != "-c" {
			continue
		}
		packets, err = strconv.ParseUint(words[i+1], 10, 64)
		if err == nil {
			bytes, err = strconv.ParseUint(words[i+2], 10, 64)
		}
		return packets, bytes, err
	}
	return 0, 0, fmt.Errorf("rule %q: has none", line)
}
