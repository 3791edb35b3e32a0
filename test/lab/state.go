// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"net/netip"
	"path/filepath"
)

// State is a picture of a lab for programs outside of it. Process numbers are those of the sandbox.
type State struct {
	// Dir has the logs, BinDir the programs.
	Dir    string      `json:"dir"`
	BinDir string      `json:"binDir"`
	Hosts  []HostState `json:"hosts"`
}

// HostState is one host.
type HostState struct {
	Name string `json:"name"`
	// PID is a process that is in the host's namespaces as long as the host exists.
	PID       int            `json:"pid"`
	Addresses []netip.Addr   `json:"addresses"`
	Pods      []PodState     `json:"pods"`
	Processes []ProcessState `json:"processes"`
}

// PodState is one pod.
type PodState struct {
	Name      string       `json:"name"`
	Addresses []netip.Addr `json:"addresses"`
	NetNS     string       `json:"netns"`
}

// ProcessState is one process that the lab started on a host.
type ProcessState struct {
	Name    string `json:"name"`
	PID     int    `json:"pid"`
	LogFile string `json:"logFile"`
}

// State returns the picture.
func (l *Lab) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	state := State{Dir: l.config.Dir, BinDir: l.config.BinDir}
	for _, h := range l.hosts {
		host := HostState{Name: h.Name, PID: h.space.pid, Addresses: h.addresses}
		for _, p := range h.pods {
			host.Pods = append(host.Pods, PodState{Name: p.Name, Addresses: p.Addresses(), NetNS: p.NetNS()})
		}
		for _, p := range h.processes {
			if p.Running() {
				host.Processes = append(host.Processes, ProcessState{Name: p.Name, PID: p.PID, LogFile: p.LogFile})
			}
		}
		state.Hosts = append(state.Hosts, host)
	}
	return state
}

// Enter is the command line that runs argv on a host, or in one of its pods when pod is not empty.
// It works in the lab's sandbox.
func (s State) Enter(host, pod string, argv []string) ([]string, error) {
	for _, h := range s.Hosts {
		if h.Name != host {
			continue
		}
		place := &space{pid: h.PID}
		if pod == "" {
			return place.enter(argv...), nil
		}
		for _, p := range h.Pods {
			if p.Name == pod {
				return place.enterNet("--net="+filepath.Join(place.root(), p.NetNS), argv), nil
			}
		}
		return nil, fmt.Errorf("enter pod %s: host %s has none of that name", pod, host)
	}
	return nil, fmt.Errorf("enter host %s: the lab has none of that name", host)
}
