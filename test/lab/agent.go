// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// AgentLog names an agent's process, and thus its log: HOST-korat-node.log.
const AgentLog = "korat-node"

// readyURL is where an agent with default settings says whether it is ready.
const readyURL = "http://127.0.0.1:9099/readyz"

// Agent is a korat-node run.
type Agent struct {
	*Process
	Host *Host
}

// StartAgent starts an agent; WaitReady waits for it. What the flags leave open comes from the host's
// /etc/korat/korat-node.yaml.
func (h *Host) StartAgent(flags ...string) (*Agent, error) {
	argv := append([]string{filepath.Join(h.lab.config.BinDir, "korat-node"), "run"}, flags...)
	p, err := h.Start(AgentLog, argv...)
	if err != nil {
		return nil, err
	}
	return &Agent{Process: p, Host: h}, nil
}

// WaitReady waits until /readyz answers 200. An agent that ends meanwhile fails it at once.
func (a *Agent) WaitReady(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-a.ended:
			cancel(errors.New("the agent has ended"))
		case <-ctx.Done():
		}
	}()
	err := Until(ctx, "the agent of "+a.Host.Name+" is ready", func(ctx context.Context) error {
		status, body, err := a.Host.Get(ctx, readyURL)
		if err != nil {
			return err
		}
		if status != http.StatusOK {
			return fmt.Errorf("%s says %d: %s", readyURL, status, strings.TrimSpace(body))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%w; its log ends with\n%s", err, a.tail(20))
	}
	return nil
}

// Pids finds processes of the host by the base name of their program and by their first arguments:
// Pids("korat-node", "speaker").
func (h *Host) Pids(program string, args ...string) []int {
	var found []int
	for _, pid := range h.space.processes() {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil {
			continue // It has ended since.
		}
		words := strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
		if filepath.Base(words[0]) == program && len(words) > len(args) && slices.Equal(words[1:1+len(args)], args) {
			found = append(found, pid)
		}
	}
	return found
}
