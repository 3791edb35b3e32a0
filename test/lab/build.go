// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// Build builds programs of this module into a directory, for tests that are to run the code as it is
// now. It works wherever the module's source is the working directory or above it.
func Build(ctx context.Context, dir string, packages ...string) error {
	for _, p := range packages {
		cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", dir+"/", p)
		cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w: %s", p, err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}

// Programs are the packages of what runs on hosts.
func Programs() []string {
	return []string{"korat/cmd/korat-node", "korat/cmd/korat", "korat/cmd/koratctl"}
}
