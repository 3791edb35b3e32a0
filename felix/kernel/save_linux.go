// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"korat/api"
	"korat/policy/chain"
	"korat/policy/render"
)

// save reads all tables of a family that exist, line by line: chains (":cali-FORWARD - [0:0]") and rules ("-A …"). It
// gives up when nothing has come for some time.
func (h *Handle) save(ctx context.Context, c ChainsConfig, f api.Family, each func(t chain.Table, line string)) error {
	name := c.Backend.program(f, "-save")
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cmd := exec.CommandContext(ctx, name)
	stderr := &complaint{}
	cmd.Stderr, cmd.WaitDelay = stderr, time.Second
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = h.inside(cmd.Start)
	}
	if err != nil {
		return fmt.Errorf("run %s: %w", name, err)
	}
	silence := time.AfterFunc(c.patience(), func() {
		cancel(fmt.Errorf("no answer for %s", c.patience()))
		_ = stdout.Close() // a child of the program may have it open
	})
	err = parseSave(speaking{stdout, silence, c.patience()}, each)
	if err != nil {
		_, _ = io.Copy(io.Discard, stdout) // so that it can end
	}
	ended := cmd.Wait()
	silence.Stop()
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case err == nil && ended != nil:
		err = fmt.Errorf("%w: %s", ended, essence(stderr.String()))
	}
	if err != nil {
		return fmt.Errorf("run %s: %w", name, err)
	}
	return nil
}

// speaking puts off what happens after silence with all that is read.
type speaking struct {
	io.Reader
	silence  *time.Timer
	patience time.Duration
}

// Read implements io.Reader.
func (s speaking) Read(b []byte) (int, error) {
	n, err := s.Reader.Read(b)
	if err == nil {
		s.silence.Reset(s.patience)
	}
	return n, err
}

// parseSave reads what iptables-save prints. Anything of a table that it can't show would be missed, and is an
// error.
func parseSave(r io.Reader, each func(t chain.Table, line string)) error {
	var table chain.Table
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), 1<<20)
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "*"):
			table = chain.Table(line[1:])
		case strings.HasPrefix(line, "# Table `") && strings.Contains(line, "is incompatible"):
			name, _, _ := strings.Cut(strings.TrimPrefix(line, "# Table `"), "'")
			return errors.New("the table " + name + " has rules that were made with nft and that iptables can't show: move these " +
				"into a table of another name")
		case strings.HasPrefix(line, ":") || strings.HasPrefix(line, "-A "):
			each(table, line)
		}
	}
	return lines.Err()
}

// ours says whether a line of iptables-save's is a chain of ours, or a rule in one, with our mark or that leads to one.
func ours(line string) bool {
	name, rule := chainOf(line)
	return strings.HasPrefix(name, chainPrefix) || rule && (render.ID(line) != "" || leadsToOurs(line))
}

// chainPrefix begins the names of our chains.
const chainPrefix = InterfacePrefix + "-"

// chainOf gives the chain that a line is about, and whether it is a rule of it.
func chainOf(line string) (name string, rule bool) {
	rest, rule := strings.CutPrefix(line, "-A ")
	if !rule {
		rest = strings.TrimPrefix(line, ":")
	}
	name, _, _ = strings.Cut(rest, " ")
	return name, rule
}

// leadsTo gives the chain that a rule jumps or goes to, which iptables-save prints at the end; or another target.
func leadsTo(line string) string {
	at := strings.LastIndexByte(line, ' ')
	if at >= 0 && (strings.HasSuffix(line[:at], " -j") || strings.HasSuffix(line[:at], " -g")) {
		return line[at+1:]
	}
	return ""
}

func leadsToOurs(line string) bool { return strings.HasPrefix(leadsTo(line), chainPrefix) }
