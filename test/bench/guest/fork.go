// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"korat/felix/kernel"
)

// Fork writes chains by a program that is started for each change.
type Fork struct{ ctx context.Context }

// ForkConfig is what to write, and by which of iptables' backends.
type ForkConfig struct {
	Backend kernel.Backend
	Text    string
}

// Restore gives iptables-restore a text. Sets that it names must be there. The CPU is the program's and, as of who changes
// chains by a program that runs, that of the one who starts it.
func (f *Fork) Restore(cfg ForkConfig, cost *Cost) error {
	program := "iptables-" + strings.ToLower(string(cfg.Backend)) + "-restore"
	cmd := exec.CommandContext(f.ctx, program, "--noflush")
	cmd.Stdin = strings.NewReader(cfg.Text)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	before, err := ownCPU()
	if err != nil {
		return err
	}
	began := time.Now()
	err = cmd.Run()
	cost.Wall = time.Since(began)
	if err != nil {
		return fmt.Errorf("run %s: %w: %s", program, err, stderr.String())
	}
	after, err := ownCPU()
	if err != nil {
		return err
	}
	cost.CPU = after - before + cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return nil
}
