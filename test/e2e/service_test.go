// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// TestServices: policies that name services let to and from their endpoints, by what slices say of these, of both
// families and from several slices, ready or not; and no further once a slice is gone.
func TestServices(t *testing.T) {
	const flows = "a1>b1:tcp/80 a1>b1:tcp/81 a1>b1:udp/80 a1>b:tcp/80 a1>c:tcp/80 b1>a1:tcp/80 c>a1:tcp/80 b>a1:tcp/80"
	w := newHostWorld(t, flows)
	w.holds("", nil)
	w.koratctl(w.host("a"), "apply", servicePolicies)
	w.until("a1 is labelled", func(ctx context.Context) error {
		_, err := w.host("a").Exec(ctx, "koratctl", "label", "--overwrite", "pod", "a1", "client=yes")
		return err
	})
	w.holds(flows, nil)

	steps := []struct {
		what   string
		slices []string
		denied string
	}{
		{
			"of one service, one slice of each family",
			[]string{w.slice("web-4", "web", 0, "b1", "port: 80"), w.slice("web-6", "web", 1, "b1", "port: 80")},
			"a1>b1:tcp/81 a1>b1:udp/80 a1>b:tcp/80 a1>c:tcp/80 b1>a1:tcp/80 c>a1:tcp/80 b>a1:tcp/80",
		},
		{
			"more slices with other endpoints and ports",
			[]string{w.slice("more-4", "web", 0, "c", "port: 80"), w.slice("more-6", "web", 1, "c", "port: 80"), w.slice("udp-4", "web", 0, "b1", "{port: 80, protocol: UDP}"), w.slice("udp-6", "web", 1, "b1", "{port: 80, protocol: UDP}")},
			"a1>b1:tcp/81 a1>b:tcp/80 b1>a1:tcp/80 c>a1:tcp/80 b>a1:tcp/80",
		},
		{
			"as the source of what comes in, by any port",
			[]string{w.slice("from-4", "from", 0, "b1", ""), w.slice("from-6", "from", 1, "b1", "")},
			"a1>b1:tcp/81 a1>b:tcp/80 c>a1:tcp/80 b>a1:tcp/80",
		},
	}
	for _, s := range steps {
		w.koratctl(w.host("a"), "apply", strings.Join(s.slices, "---\n"))
		w.holds(s.denied, nil)
		if t.Failed() {
			t.Fatal(s.what)
		}
	}
	w.koratctl(w.host("a"), "delete", strings.Join(steps[0].slices, "---\n")+"---\n"+strings.Join(steps[2].slices, "---\n"))
	w.holds("a1>b1:tcp/80 a1>b1:tcp/81 a1>b:tcp/80 b1>a1:tcp/80 c>a1:tcp/80 b>a1:tcp/80", nil)
}

const servicePolicies = `
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: services, namespace: default}
spec:
  selector: client == 'yes'
  types: [Ingress, Egress]
  ingress: [{action: Allow, source: {services: {name: from}}}]
  egress: [{action: Allow, destination: {services: {name: web, namespace: default}}}]
`

// slice is one of a service with one endpoint, which is not ready.
func (w *hostWorld) slice(name, service string, family int, of, port string) string {
	if port != "" && !strings.HasPrefix(port, "{") {
		port = "{" + port + "}"
	}
	return fmt.Sprintf("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: %s, labels: {kubernetes.io/service-name: %s}}\n"+
		"addressType: IPv%d\nendpoints: [{addresses: [\"%s\"], conditions: {ready: false}}]\nports: [%s]\n",
		name, service, 4+2*family, w.addresses[of][family], port)
}
