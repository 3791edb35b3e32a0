// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"bufio"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"korat/felix/dataplane"
	"korat/felix/kernel"
	"korat/felix/reconcile"
)

// wait hands every Notice to take until one of them is what is waited for.
func wait(t testing.TB, h *kernel.Handle, until func(kernel.Notice) bool, take func(kernel.Notice)) {
	t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		select {
		case <-h.Wake():
			n := h.Drain()
			if n.Lost {
				t.Fatalf("notices were lost: %v", n.Err)
			}
			take(n)
			if until(n) {
				return
			}
		case <-timeout:
			t.Fatal("no such notice came")
		}
	}
}

// comeUp waits until the kernel has told that the interfaces are up, which it does some time after they were set up.
func comeUp(t testing.TB, h host, handle *kernel.Handle) {
	t.Helper()
	up := func(kernel.Notice) bool { return strings.Count(h.Run("ip", "-o", "link"), " state UP ") == 6 }
	if !up(kernel.Notice{}) {
		wait(t, handle, up, func(kernel.Notice) {})
	}
	settle(t, h, handle)
}

// settle makes a change that is not ours, and gives all that was noticed up to it.
func settle(t testing.TB, h host, handle *kernel.Handle) kernel.Notice {
	t.Helper()
	all := kernel.Notice{
		Links: map[string]bool{}, RemovedAddresses: map[netip.Addr]bool{}, Routes: map[netip.Prefix]bool{},
		Neighbours: map[dataplane.NeighbourKey]bool{}, Sysctls: map[string]bool{},
	}
	h.Batch("route add 203.0.113.0/24 dev eth0", "route delete 203.0.113.0/24 dev eth0")
	mark := prefix("203.0.113.0/24").Prefix
	wait(t, handle, func(n kernel.Notice) bool { return n.Routes[mark] }, func(n kernel.Notice) {
		for p := range n.Routes {
			if p != mark {
				t.Errorf("noticed %v", p)
			}
		}
		merge(&all, n)
	})
	return all
}

// merge adds what a later Notice has: what is noticed may be taken in parts.
func merge(all *kernel.Notice, n kernel.Notice) {
	for name, flushed := range n.Links {
		all.Links[name] = all.Links[name] || flushed
	}
	maps.Copy(all.RemovedAddresses, n.RemovedAddresses)
	maps.Copy(all.Routes, n.Routes)
	maps.Copy(all.Neighbours, n.Neighbours)
	maps.Copy(all.Sysctls, n.Sysctls)
	all.Addresses = all.Addresses || n.Addresses
	all.DefaultRoute = all.DefaultRoute || n.DefaultRoute
	all.Planted = all.Planted || n.Planted
	all.Chains = all.Chains || n.Chains
}

func TestOurOwnChangesAreNotNoticed(t *testing.T) {
	h := newHost(t)
	handle := h.open()
	comeUp(t, h, handle)
	routeStep := reconcile.NewStep("routes", handle.Routes())
	neighbourStep := reconcile.NewStep("neighbours", handle.Neighbours())
	want := manyRoutes(500)
	for range 3 {
		apply(t, routeStep, want)
		apply(t, neighbourStep, neighbours{neighbour("cali1", "10.0.0.1"): {MAC: "02:00:00:00:00:01"}})
		apply(t, routeStep, nil)
	}
	n := settle(t, h, handle)
	if n.TouchesNeighbours() || n.Host() || n.TouchesLinks() || n.TouchesSysctls() {
		t.Errorf("noticed %+v", n)
	}
}

func TestRepairAfterNotice(t *testing.T) {
	for name, commands := range map[string][]string{
		"deleted":                    {"route delete 10.0.0.1/32", "route delete 10.0.9.0/24"},
		"all flushed":                {"route flush proto 75"},
		"replaced":                   {"route replace 10.0.9.0/24 via 192.0.2.7", "route replace blackhole 10.0.0.1"},
		"prepended":                  {"route prepend 10.0.9.0/24 via 192.0.2.7"},
		"link flapped":               {"link set cali1 down", "link set cali1 up"},
		"uplink flapped":             {"link set eth0 down", "link set eth0 up"},
		"link made anew":             {"link delete cali1", "link add cali1 type veth peer name pod1", "link set pod1 up", "link set cali1 up"},
		"link renamed and back":      {"link set cali1 down", "link set cali1 name other1", "link set other1 name cali1", "link set cali1 up"},
		"link went away for a while": {"link add eth9 type veth peer name peer9", "link set cali1 name gone1", "link set gone1 name cali1"},
		"last address removed":       {"address delete 192.0.2.10/24 dev eth0", "address add 192.0.2.10/24 dev eth0"},
		"source removed":             {"address delete 198.51.100.9/32 dev lo", "address add 198.51.100.9/32 dev lo"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.Run("ip", "address", "add", "198.51.100.9/32", "dev", "lo")
			handle := h.open()
			sourced := dev("cali2")
			sourced.Source = netip.MustParseAddr("198.51.100.9")
			wantRoutes := routes{
				prefix("10.0.0.1/32"): dev("cali1"), prefix("10.0.0.2/32"): dev("cali2"), prefix("10.0.9.0/24"): via("192.0.2.1"),
				prefix("10.0.8.0/24"): via("192.0.2.1", "192.0.2.2"), prefix("10.0.0.0/24"): {Type: dataplane.Blackhole},
				prefix("10.0.7.0/24"): sourced,
			}
			wantNeighbours := neighbours{neighbour("cali1", "10.0.0.1"): {MAC: "02:00:00:00:00:01"}}
			routeStep := reconcile.NewStep("routes", handle.Routes())
			neighbourStep := reconcile.NewStep("neighbours", handle.Neighbours())
			apply(t, routeStep, wantRoutes)
			apply(t, neighbourStep, wantNeighbours)
			before := h.all() + h.permanent()

			settle(t, h, handle)
			h.Batch(commands...)
			if h.all()+h.permanent() == before && name != "link went away for a while" {
				t.Fatal("the commands changed nothing")
			}
			repair(h, handle, routeTable{routeStep, wantRoutes}, neighbourTable{neighbourStep, wantNeighbours})
			equal(t, "repaired", before, h.all()+h.permanent())
		})
	}
}

// tableOf is a table with what is wanted of it.
type tableOf[K comparable, V reconcile.Value[V]] struct {
	step *reconcile.Step[K, V]
	want map[K]V
}

type (
	routeTable     = tableOf[dataplane.RouteKey, dataplane.Route]
	neighbourTable = tableOf[dataplane.NeighbourKey, dataplane.Neighbour]
)

// repair has the tables repaired by the notices that have come so far, without reading them whole.
func repair(h host, handle *kernel.Handle, r routeTable, n neighbourTable) {
	h.t.Helper()
	last := prefix("203.0.113.0/24").Prefix
	h.Batch("route add 203.0.113.0/24 dev lo", "route delete 203.0.113.0/24 dev lo")
	wait(h.t, handle, func(n kernel.Notice) bool { return n.Routes[last] }, func(notice kernel.Notice) {
		r.step.Touch(notice.TouchesRoute)
		n.step.Touch(notice.TouchesNeighbour)
	})
	for _, result := range []reconcile.Result{apply(h.t, r.step, r.want), apply(h.t, n.step, n.want)} {
		if result.Read {
			h.t.Error("a whole table was read")
		}
	}
}

// TestUnchangedRestartWritesNothing lets ip monitor watch.
func TestUnchangedRestartWritesNothing(t *testing.T) {
	h := newHost(t)
	w := world{
		links:      links{"cali1": {Up: true, MTU: 1450}, "cali2": {Up: true}},
		sysctls:    sysctls{"net/ipv4/ip_forward": "1", "net/ipv4/conf/cali1/proxy_arp": "1", "net/ipv6/conf/all/forwarding": "1", "net/ipv6/conf/cali1/accept_ra": "0"},
		neighbours: neighbours{neighbour("cali1", "10.0.0.1"): {MAC: "02:00:00:00:00:01"}, neighbour("cali1", "2001:db8::1"): {MAC: "02:00:00:00:00:01"}},
		routes:     everyKind(),
	}
	w.apply(t, h.open())

	cmd := exec.CommandContext(t.Context(), "ip", "monitor", "all")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	seen := make(chan string, 1000)
	go func() {
		defer close(seen)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			seen <- lines.Text()
		}
	}()
	defer func() {
		_ = cmd.Process.Kill()
		for range seen {
		}
		_ = cmd.Wait()
	}()
	until := func(mark string) (lines []string) {
		for i := range 200 {
			// The monitor may not listen yet, so the mark is made until it is seen.
			h.Batch("route replace 203.0.113.0/24 dev lo proto static metric "+fmt.Sprint(i+1), "route flush 203.0.113.0/24")
			timeout := time.After(100 * time.Millisecond)
			for waiting := true; waiting; {
				select {
				case line, open := <-seen:
					if !open {
						t.Fatalf("ip monitor has ended after\n%s", strings.Join(lines, "\n"))
					}
					if strings.Contains(line, mark) {
						return lines
					}
					lines = append(lines, line)
				case <-timeout:
					waiting = false
				}
			}
		}
		t.Fatalf("ip monitor does not tell of %q", mark)
		return nil
	}
	const mark = "203.0.113.0/24 dev lo proto static scope link metric"
	until(mark)
	fresh := h.open()
	w.apply(t, fresh)
	w.apply(t, fresh)
	equal(t, "writes", kernel.Writes{}, fresh.Writes())
	stray := slices.DeleteFunc(until(mark), func(l string) bool { return strings.Contains(l, "203.0.113.0/24") })
	if len(stray) > 0 {
		t.Errorf("ip monitor saw\n%s", strings.Join(stray, "\n"))
	}
}

// world is one state of all tables.
type world struct {
	links      links
	sysctls    sysctls
	neighbours neighbours
	routes     routes
}

func (w world) apply(t testing.TB, h *kernel.Handle) {
	t.Helper()
	apply(t, reconcile.NewStep("links", h.Links()), w.links)
	apply(t, reconcile.NewStep("sysctls", h.Sysctls()), w.sysctls)
	apply(t, reconcile.NewStep("neighbours", h.Neighbours()), w.neighbours)
	apply(t, reconcile.NewStep("routes", h.Routes()), w.routes)
}

// TestRandomWalk goes from one random state to another, with others interfering, and compares the
// kernel with each.
func TestRandomWalk(t *testing.T) {
	h := newHost(t)
	handle := h.open()
	step := reconcile.NewStep("routes", handle.Routes())
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	kinds := []dataplane.Route{
		dev("cali1"), dev("cali2"), via("192.0.2.1"), via("192.0.2.2"), via("192.0.2.1", "192.0.2.2"), {Type: dataplane.Blackhole},
	}
	interference := []string{
		"route replace 10.0.%d.0/24 via 192.0.2.7", "route replace 10.0.%d.0/24 via 192.0.2.7 metric 9", "route delete 10.0.%d.0/24",
		"route prepend 10.0.%d.0/24 via 192.0.2.9", "route append 10.0.%d.0/24 dev cali1",
	}
	for range 100 {
		want := routes{}
		for i := range 10 {
			if r := random.IntN(len(kinds) + 1); r < len(kinds) {
				want[prefix(fmt.Sprintf("10.0.%d.0/24", i))] = kinds[r]
			}
		}
		for range random.IntN(4) {
			// Whether there was something to delete or not doesn't matter.
			_, _ = h.Try(append([]string{"ip"}, strings.Fields(fmt.Sprintf(interference[random.IntN(len(interference))], random.IntN(10)))...)...)
		}
		step.Invalidate()
		apply(t, step, want)
		have, err := handle.Routes().Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		equal(t, fmt.Sprintf("seed %d", seed), fmt.Sprint(want), fmt.Sprint(have))
		if t.Failed() {
			return
		}
	}
}

// TestPlantedRoute: a route of ours that somebody else makes may be for a prefix that nobody remembers.
func TestPlantedRoute(t *testing.T) {
	h := newHost(t)
	handle := h.open()
	for _, c := range []struct {
		command, prefix string
		planted         bool
	}{
		{"route add 10.9.1.0/24 dev eth0 proto 75", "10.9.1.0/24", true},
		{"route add 10.9.2.0/24 dev eth0 proto static", "10.9.2.0/24", false},
		{"route del 10.9.1.0/24", "10.9.1.0/24", false},
		{"route add blackhole 2001:db8:9::/48 proto 75", "2001:db8:9::/48", true},
	} {
		planted, changed := false, prefix(c.prefix).Prefix
		h.Batch(c.command)
		wait(t, handle, func(n kernel.Notice) bool { return n.Routes[changed] }, func(n kernel.Notice) { planted = planted || n.UnknownRoutes() })
		equal(t, c.command, c.planted, planted)
	}
}
