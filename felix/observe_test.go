// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"errors"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"korat/api"
	"korat/felix/kernel"
)

// setMTU changes the uplink's MTU, which new pods get, without a notice.
func (w *testWorld) setMTU(mtu int) {
	w.kernel.change(func(k *fakeKernel) {
		link := k.host.Links["eth0"]
		link.MTU = mtu
		k.host.Links["eth0"] = link
	})
}

func TestAFailedObservationIsRepeated(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	n.untilReady()
	w.setMTU(9000)
	w.kernel.change(func(k *fakeKernel) { k.fails = errors.New("links changed while they were read") })
	w.kernel.tell(kernel.Notice{Links: map[string]bool{"eth0": false}})
	w.until("the failure is told", func() bool {
		return strings.Contains(strings.Join(n.report.notReady(), ""), "observe host: links changed")
	})
	w.kernel.change(func(k *fakeKernel) { k.fails = nil })
	n.untilReady()
	if ep := n.attach("web"); ep.MTU != 9000 {
		t.Errorf("MTU %d, want the uplink's 9000", ep.MTU)
	}
}

func TestEveryResyncObserves(t *testing.T) {
	often, never := &metav1.Duration{Duration: 20 * time.Millisecond}, &metav1.Duration{Duration: MaxResync}
	for name, spec := range map[string]api.FelixConfigurationSpec{
		"routes":     {RouteRefreshInterval: often, InterfaceRefreshInterval: never},
		"interfaces": {RouteRefreshInterval: never, InterfaceRefreshInterval: often},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			cfg := &api.FelixConfiguration{Spec: spec}
			cfg.Name = api.DefaultName
			w.create(cfg)
			n := w.start()
			n.untilReady()
			w.setMTU(9000)
			id := 0
			w.until("the change is seen", func() bool {
				id++
				ep, err := n.ask(request(strings.Repeat("c", id), "web"))
				return err == nil && ep.MTU == 9000
			})
		})
	}
}

// An agent that hears nothing of the kernel would repair nothing; the service manager starts another.
func TestADeafAgentEnds(t *testing.T) {
	w := newWorld(t)
	w.ends = make(chan error, 1)
	n := w.start()
	ep := n.attach("web")
	w.writes()
	deaf := errors.New("listen to the kernel: bad file descriptor")
	w.kernel.tell(kernel.Notice{Lost: true, Err: deaf})
	w.until("the agent has ended", func() bool { return len(w.ends) > 0 })
	if err := <-w.ends; !errors.Is(err, deaf) {
		t.Errorf("the agent ended with %v", err)
	}
	if text := w.writes(); text != "" || !w.hasRoute(ep.Addresses[0].String()+"/32") {
		t.Errorf("written at the end: %s", text)
	}
}
