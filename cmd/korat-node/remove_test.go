// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
)

// While an agent answers nothing is removed: it would put everything back.
func TestRulesOfARunningAgentStay(t *testing.T) {
	dir := t.TempDir()
	agent, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(dir, "agent.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer agent.Close()
	cmd := removeCommand()
	var out strings.Builder
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"--run-dir", dir})
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), "an agent answers on "+dir) || out.String() != "" {
		t.Errorf("have %v, %q", err, out.String())
	}
}
