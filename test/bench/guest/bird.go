// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// Bird drives BIRD as confd does for Calico: write the configuration, have bird -p check it, have
// birdc load it.
type Bird struct{ ctx context.Context }

// BirdConfig is a new configuration and where it goes.
type BirdConfig struct{ File, Socket, Text string }

// Configure carries it out, and says when it began.
func (b *Bird) Configure(cfg BirdConfig, at *time.Duration) error {
	var err error
	if *at, err = now(); err != nil {
		return err
	}
	if err := os.WriteFile(cfg.File+".new", []byte(cfg.Text), 0o644); err != nil {
		return fmt.Errorf("write BIRD's configuration: %w", err)
	}
	if out, err := exec.CommandContext(b.ctx, "bird", "-p", "-c", cfg.File+".new").CombinedOutput(); err != nil {
		return fmt.Errorf("check BIRD's configuration: %w: %s", err, out)
	}
	if err := os.Rename(cfg.File+".new", cfg.File); err != nil {
		return fmt.Errorf("write BIRD's configuration: %w", err)
	}
	if out, err := exec.CommandContext(b.ctx, "birdc", "-s", cfg.Socket, "configure").CombinedOutput(); err != nil {
		return fmt.Errorf("load BIRD's configuration: %w: %s", err, out)
	}
	return nil
}
