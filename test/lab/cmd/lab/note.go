// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"korat/test/lab"
)

// noteDir has a note NAME.json about each lab that was left up.
const noteDir = "/run/korat-lab"

var labName = regexp.MustCompile(`^[a-z0-9][-a-z0-9]{0,39}$`)

// errNotUp says that there is no such lab.
var errNotUp = errors.New("is not up")

// running is a lab that was left up: process 1 of its sandbox, and when that started (in clock ticks
// since boot), because process numbers are used again.
type running struct {
	Name    string `json:"-"`
	PID     int    `json:"pid"`
	Started string `json:"started"`
}

func noteFile(name string) string { return filepath.Join(noteDir, name+".json") }

// note writes that a lab is up.
func note(name string, pid int) error {
	started, err := startTime(pid)
	if err != nil {
		return err
	}
	data, err := json.Marshal(running{PID: pid, Started: started})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(noteDir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(noteFile(name), append(data, '\n'), 0o600)
}

// forget removes the note, and the directory with the last one.
func forget(name string) error {
	if err := os.Remove(noteFile(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_ = os.Remove(noteDir) // It is not empty while there are other labs.
	return nil
}

// find looks a lab up. The note of one that has ended is removed.
func find(name string) (running, error) {
	if !labName.MatchString(name) {
		return running{}, fmt.Errorf("--name: %q: want a-z, 0-9 and -, 40 at most", name)
	}
	data, err := os.ReadFile(noteFile(name))
	if errors.Is(err, fs.ErrNotExist) {
		return running{}, fmt.Errorf("lab %s %w", name, errNotUp)
	}
	if err != nil {
		return running{}, err
	}
	r := running{Name: name}
	if err := json.Unmarshal(data, &r); err != nil {
		return running{}, fmt.Errorf("read %s: %w: remove it if lab %s is not up", noteFile(name), err, name)
	}
	if started, err := startTime(r.PID); err != nil || started != r.Started {
		return running{}, errors.Join(fmt.Errorf("lab %s %w", name, errNotUp), forget(name))
	}
	return r, nil
}

// all lists the labs that are up.
func all() ([]running, error) {
	files, err := filepath.Glob(noteFile("*"))
	if err != nil {
		return nil, err
	}
	var labs []running
	for _, file := range files {
		r, err := find(strings.TrimSuffix(filepath.Base(file), ".json"))
		switch {
		case err == nil:
			labs = append(labs, r)
		case !errors.Is(err, errNotUp):
			return nil, err
		}
	}
	return labs, nil
}

// choose finds the named lab, or the only one when no name is given.
func choose(name string) (running, error) {
	if name != "" {
		return find(name)
	}
	labs, err := all()
	if err != nil {
		return running{}, err
	}
	switch len(labs) {
	case 0:
		return running{}, errors.New("no lab is up: hack/lab up brings one up")
	case 1:
		return labs[0], nil
	}
	return running{}, fmt.Errorf("%d labs are up: name one with --name; hack/lab status lists them", len(labs))
}

// root is the sandbox's file system as it can be reached from here.
func (r running) root() string { return fmt.Sprintf("/proc/%d/root", r.PID) }

// picture reads the lab's state.
func (r running) picture() (lab.State, error) {
	var state lab.State
	data, err := os.ReadFile(filepath.Join(r.root(), pictureFile))
	if err != nil {
		return state, fmt.Errorf("read state of lab %s: %w", r.Name, err)
	}
	if err := json.Unmarshal(data, &state); err != nil {
		return state, fmt.Errorf("read state of lab %s: %w", r.Name, err)
	}
	return state, nil
}

// startTime is field 22 of /proc/PID/stat (proc_pid_stat(5)). The second field may hold blanks, but ends
// with the last parenthesis. A zombie counts as ended.
func startTime(pid int) (string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	if len(fields) < 20 {
		return "", fmt.Errorf("read start time of process %d: short line %q", pid, data)
	}
	if fields[0] == "Z" {
		return "", fmt.Errorf("process %d has ended", pid)
	}
	return fields[19], nil
}
