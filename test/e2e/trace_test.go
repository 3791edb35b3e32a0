// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"korat/api"
	"korat/felix/endpoint"
	"korat/ipam/journal"
	"korat/test/lab"
)

// endpoints reads koratctl's list of WorkloadEndpoints: "node pod address" each.
func endpoints(text string) ([]string, error) {
	var list struct{ Items []api.WorkloadEndpoint }
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, fmt.Errorf("read endpoints: %w", err)
	}
	var all []string
	for _, ep := range list.Items {
		all = append(all, strings.Join(append([]string{ep.Spec.Node, ep.Spec.Pod}, ep.Spec.IPNetworks...), " "))
	}
	return all, nil
}

// refused attaches a pod and wants the plugin's refusal with this code and text, and nothing left of
// it. Blocks are the agent's to claim at any time.
func (w *world) refused(h *lab.Host, pod lab.PodConfig, code uint, text string) {
	w.Helper()
	blackhole := regexp.MustCompile(`(?m)^blackhole .*\n?`)
	traces := func() string { return w.recorded(h) + blackhole.ReplaceAllString(w.kernel(h), "") }
	before := traces()
	_, err := h.AddPod(w.limit(), pod)
	w.isCNIError(err, code, text)
	if after := traces(); after != before {
		w.Errorf("ADD of %s left traces: before\n%s\nafter\n%s", pod.Name, before, after)
	}
}

// isCNIError holds an error of the plugin against its code and a part of its text.
func (w *world) isCNIError(err error, code uint, text string) {
	w.Helper()
	var reported *types.Error
	switch {
	case !errors.As(err, &reported):
		w.Errorf("have %v, want CNI error %d: %s", err, code, text)
	case reported.Code != code || !strings.Contains(reported.Msg+"; "+reported.Details, text):
		w.Errorf("have CNI error %d: %s; %s\nwant %d: %s", reported.Code, reported.Msg, reported.Details, code, text)
	}
}

// recorded gives the attachments in the agent's journal.
func (w *world) recorded(h *lab.Host) string {
	w.Helper()
	file := filepath.Join(w.TempDir(), "journal")
	if err := os.WriteFile(file, []byte(w.run(h, "cat /run/korat/endpoints.journal")), 0o600); err != nil {
		w.Fatal(err)
	}
	j, err := journal.Open[endpoint.Endpoint](file)
	if err != nil {
		w.Fatal(err)
	}
	defer j.Close()
	var all []string
	for key, ep := range j.All() {
		all = append(all, fmt.Sprintf("%s %s/%s %v\n", key, ep.Namespace, ep.Pod, ep.Addresses))
	}
	slices.Sort(all)
	return strings.Join(all, "")
}

// kernel gives what an attachment changes on a host.
func (w *world) kernel(h *lab.Host) string {
	w.Helper()
	all := ""
	for _, command := range []string{"ip -br link", "ip route", "ip neigh show nud permanent"} {
		all += lines(w.run(h, command)) + "\n"
	}
	return all
}

// store gives every object with its resourceVersion.
func (w *world) store(h *lab.Host) string {
	w.Helper()
	all := ""
	for _, kind := range api.Kinds() {
		all += w.run(h, "koratctl get "+string(kind)+" -A -o yaml")
	}
	return all
}
