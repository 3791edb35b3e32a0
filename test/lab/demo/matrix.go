// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"korat/test/lab"
)

// family is an IP version.
type family string

const (
	ipv4 family = "IPv4"
	ipv6 family = "IPv6"
)

// of gives a host's or pod's address of the family; invalid if it has none.
func (f family) of(where lab.Addressed) netip.Addr {
	for _, a := range where.Addresses() {
		if a.Is4() == (f == ipv4) {
			return a
		}
	}
	return netip.Addr{}
}

// families are those of the hosts.
func families(c *lab.Cluster) []family {
	return slices.DeleteFunc([]family{ipv4, ipv6}, func(f family) bool { return !f.of(c.Hosts()[0]).IsValid() })
}

// place is a pod or a host with one address: what pings and is pinged.
type place struct {
	name    string
	address netip.Addr
	runner  lab.Runner
}

// places lists the pods and then the hosts.
func places(c *lab.Cluster, f family) []place {
	var pods, hosts []place
	for _, h := range c.Hosts() {
		hosts = append(hosts, place{"host " + h.Name, f.of(h), h})
		for _, p := range h.Pods() {
			pods = append(pods, place{p.Name, f.of(p), p})
		}
	}
	return append(pods, hosts...)
}

// matrix has the result of a ping from each place (row) to each (column); none on the diagonal.
type matrix struct {
	places []place
	times  [][]time.Duration
	errs   [][]error
}

// parallel is how many pings run at once; more would only measure the machine's load.
const parallel = 4

// pingAll pings everything from everywhere.
func pingAll(ctx context.Context, places []place) *matrix {
	m := &matrix{places: places}
	slots := make(chan struct{}, parallel)
	var all sync.WaitGroup
	for i, from := range places {
		m.times = append(m.times, make([]time.Duration, len(places)))
		m.errs = append(m.errs, make([]error, len(places)))
		times, errs := m.times[i], m.errs[i]
		for j, to := range places {
			if i == j {
				continue
			}
			all.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				times[j], errs[j] = lab.Ping(ctx, from.runner, to.address)
			})
		}
	}
	all.Wait()
	return m
}

// failures lists the pings without an answer.
func (m *matrix) failures() []string {
	var failed []string
	for i, row := range m.errs {
		for j, err := range row {
			if err != nil {
				failed = append(failed, fmt.Sprintf("%s to %s (%s): %s", m.places[i].name, m.places[j].name, m.places[j].address, lastLine(err.Error())))
			}
		}
	}
	return failed
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// count is how many pings were sent.
func (m *matrix) count() int { return len(m.places) * (len(m.places) - 1) }

// table gives milliseconds, ✗ for no answer and · on the diagonal.
func (m *matrix) table() [][]string {
	header := []string{"from ↓ to →", ""}
	for _, p := range m.places {
		header = append(header, p.name)
	}
	rows := [][]string{header}
	for i, from := range m.places {
		row := []string{from.name, from.address.String()}
		for j := range m.places {
			switch {
			case i == j:
				row = append(row, "·")
			case m.errs[i][j] != nil:
				row = append(row, "✗")
			default:
				row = append(row, fmt.Sprintf("%.2f", float64(m.times[i][j])/float64(time.Millisecond)))
			}
		}
		rows = append(rows, row)
	}
	return rows
}
