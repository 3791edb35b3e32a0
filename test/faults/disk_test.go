// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"korat/felix"
	"korat/test/lab"
)

// crew is a host with a runtime, of which the test says what it does.
type crew struct {
	*Runtime
	t      *testing.T
	site   *Site
	ledger Ledger
}

func newCrew(t *testing.T, pods int) *crew {
	t.Helper()
	c := &crew{t: t, site: site(t, 1, "")}
	var err error
	if c.Runtime, err = NewRuntime(limit(t), c.site.Hosts()[0], pods, &c.ledger, seed(t)); err != nil {
		t.Fatal(err)
	}
	return c
}

// come attaches those of the pods from the first to before the last number that are not.
func (c *crew) come(first, last int) {
	c.t.Helper()
	for _, p := range c.pods[first:last] {
		if len(p.addrs) > 0 {
			continue
		}
		if err := c.attach(limit(c.t), p); err != nil {
			c.t.Fatal(err)
		}
	}
}

// gone detaches those that were ever attached.
func (c *crew) gone(first, last int) {
	c.t.Helper()
	for _, p := range c.pods[first:last] {
		if p.container == "" {
			continue
		}
		if err := c.detach(limit(c.t), p); err != nil {
			c.t.Fatal(err)
		}
	}
}

// sh runs a line of the shell on the host.
func (c *crew) sh(line string) {
	c.t.Helper()
	if _, err := c.Host.Exec(limit(c.t), "sh", "-c", line); err != nil {
		c.t.Fatal(err)
	}
}

// restart kills the agent, and waits for the next.
func (c *crew) restart() {
	c.t.Helper()
	if err := errors.Join(c.site.RestartAgent(c.Host), c.site.WaitReady(limit(c.t))); err != nil {
		c.t.Fatal(err)
	}
}

// problems are those that node status names now.
func (c *crew) problems() string {
	c.t.Helper()
	out, err := c.Host.Exec(limit(c.t), "koratctl", "node", "status", "-o", "json")
	var s felix.NodeStatus
	if err == nil {
		err = json.Unmarshal([]byte(out), &s)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return strings.Join(s.Problems, "\n")
}

// says waits until node status names a problem, or none where that is empty.
func (c *crew) says(problem string) {
	c.t.Helper()
	err := lab.Until(limit(c.t), fmt.Sprintf("node status says %q", problem), func(context.Context) error {
		if all := c.problems(); (problem == "") != (all == "") || !strings.Contains(all, problem) {
			return fmt.Errorf("it says %q", all)
		}
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// right holds the host against what the plugin said, and wants no double.
func (c *crew) right() {
	c.t.Helper()
	if err := c.verify(limit(c.t)); err != nil {
		c.t.Error(err)
	}
	if doubles := c.ledger.Doubles(); len(doubles) > 0 {
		c.t.Errorf("doubles: %v", doubles)
	}
}

// over ends with nothing left.
func (c *crew) over() {
	c.t.Helper()
	c.gone(0, len(c.pods))
	if _, err := c.site.AwaitNothing(limit(c.t)); err != nil {
		c.t.Error(err)
	}
}

// TestRecordsDiskFull fills the filesystem that the record of pods is on: what can't be recorded is refused, with the
// remedy, and done once there is room.
func TestRecordsDiskFull(t *testing.T) {
	c := newCrew(t, 40)
	c.come(0, 4)
	c.sh("mount -o remount,size=2m /run && (cat /dev/zero >/run/filling || true) 2>&1")
	const why = "no space left on device: nothing was recorded; free space on its filesystem and retry"
	// The last page of the journal has room for some, and for the short line of a removal when there is no more for
	// an ADD's. What could not be written last is what node status tells.
	refused, told := 0, false
	for _, p := range c.pods[4:] {
		p.container = p.name + "-full"
		err := c.add(limit(t), p)
		if err == nil {
			continue
		}
		if refused++; !strings.Contains(err.Error(), why) {
			t.Fatalf("ADD with a full disk: %v", err)
		}
		if told = strings.Contains(c.problems(), why); told {
			break
		}
	}
	if refused == 0 || !told {
		t.Errorf("%d ADDs were refused for want of space; node status told of it: %v", refused, told)
	}
	// What a DEL records is short, and may find room still.
	if _, err := c.call(limit(t), "DEL", c.pods[0]); err != nil && !strings.Contains(err.Error(), why) {
		t.Errorf("DEL with a full disk: %v", err)
	}
	c.sh("rm /run/filling")
	c.gone(0, 1)
	c.says("")
	c.come(0, 20)
	c.right()
	c.restart()
	c.right()
	c.over()
}

// TestRecordAltered cuts, removes and spoils the record, while the agent runs and while it does not.
func TestRecordAltered(t *testing.T) {
	c := newCrew(t, 12)
	const (
		file    = "/run/korat/endpoints.journal"
		spoil   = "printf X | dd of=" + file + " bs=1 seek=40 conv=notrunc 2>&1"
		damaged = "record of attached pods: journal " + file + " was damaged when it was opened"
		changed = "record of attached pods: journal " + file + " was changed by others while it was in use"
	)
	for _, tc := range []struct{ name, running, dead, before, after string }{
		{"emptied", "truncate -s 0 " + file, "", changed, ""},
		{"removed", "rm " + file, "", changed, ""},
		{"spoilt", spoil, "", "", damaged},
		{"emptied between agents", "", "truncate -s 0 " + file, "", ""},
		{"spoilt between agents", "", spoil, "", damaged},
		{"cut between agents", "", "truncate -s -30 " + file, "", ""},
	} {
		t.Log(tc.name)
		c.come(0, 6)
		if tc.running != "" {
			c.sh(tc.running)
		}
		c.come(6, 8)
		c.gone(2, 3)
		c.says(tc.before)
		if err := c.site.Agent(c.Host).Kill(); err != nil {
			t.Fatal(err)
		}
		if tc.dead != "" {
			c.sh(tc.dead)
		}
		if err := errors.Join(c.site.StartAgent(c.Host), c.site.WaitReady(limit(t))); err != nil {
			t.Fatal(err)
		}
		c.says(tc.after)
		c.right()
		c.come(0, 12)
		c.right()
		c.gone(4, 12)
		c.restart()
		c.says("")
		c.right()
	}
	c.over()
}
