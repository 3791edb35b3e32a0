// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// Fork writes chains by a program that is started for each change.
type Fork struct{ ctx context.Context }

// Restore gives iptables-restore a text. Sets that it names must be there.
func (f *Fork) Restore(text string, cost *Cost) error {
	cmd := exec.CommandContext(f.ctx, "iptables-nft-restore", "--noflush")
	cmd.Stdin = strings.NewReader(text)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	began := time.Now()
	err := cmd.Run()
	cost.Wall = time.Since(began)
	if err != nil {
		return fmt.Errorf("run iptables-nft-restore: %w: %s", err, stderr.String())
	}
	cost.CPU = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return nil
}
