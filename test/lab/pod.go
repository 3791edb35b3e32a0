// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os/exec"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"korat/felix/endpoint"
)

// PodConfig describes a pod.
type PodConfig struct {
	// Name is also the network namespace's name, with Namespace and a dash before it unless that is "default".
	Name string
	// Namespace is the Kubernetes namespace ["default"].
	Namespace string
	// Network is the network configuration that the plugin gets [NetworkConfig, or with more where the lab
	// has IPv6].
	Network string
	// Args are added to CNI_ARGS, e.g. "IP=172.17.0.9".
	Args string
	// Labels are handed to the plugin as args.cni.labels.
	Labels map[string]string
	// Ports are its named ports, handed to the plugin as args.cni.ports.
	Ports []endpoint.Port
	// Before is called, if it is not nil, when the network namespace is there and the plugin has not been called yet.
	Before func(*Pod) error
}

// defaultNamespace is that of pods which name none.
const defaultNamespace = "default"

// Pod is a network namespace that the CNI plugin attached.
type Pod struct {
	PodConfig
	Host        *Host
	ContainerID string
	// Result is what the plugin said.
	Result *types100.Result
}

// CNI is one call of a CNI plugin.
type CNI struct {
	// Plugin is a program in /opt/cni/bin ["korat"].
	Plugin string
	// Command is CNI_COMMAND; the next four are the parameters of that name; an empty one is left out.
	Command, ContainerID, NetNS, IfName, Args string
	// Config is the plugin's standard input.
	Config string
}

// CNI runs a CNI plugin as a runtime does and returns its standard output. A failure that the plugin
// reports is a *types.Error in the chain.
func (h *Host) CNI(ctx context.Context, call CNI) (string, error) {
	plugin := call.Plugin
	if plugin == "" {
		plugin = "korat"
	}
	cmd := h.Command(ctx, "/opt/cni/bin/"+plugin)
	cmd.Env = append(cmd.Env, "CNI_COMMAND="+call.Command, "CNI_PATH=/opt/cni/bin")
	for name, value := range map[string]string{
		"CNI_CONTAINERID": call.ContainerID, "CNI_NETNS": call.NetNS, "CNI_IFNAME": call.IfName, "CNI_ARGS": call.Args,
	} {
		if value != "" {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	cmd.Stdin = strings.NewReader(call.Config)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err == nil {
		return stdout.String(), nil
	}
	// The specification (section 5) has errors on standard output.
	var reported types.Error
	if json.Unmarshal([]byte(stdout.String()), &reported) == nil && reported.Code != 0 {
		err = &reported
	}
	return stdout.String(), fmt.Errorf("cni %s of %s on %s: %w: %s", call.Command, call.ContainerID, h.Name, err, strings.TrimSpace(stderr.String()))
}

// AddPod makes a network namespace and attaches it.
func (h *Host) AddPod(ctx context.Context, config PodConfig) (*Pod, error) {
	if !hostName.MatchString(config.Name) {
		return nil, fmt.Errorf("add pod %q: the name must be a DNS label (a-z, 0-9, -; 63 at most)", config.Name)
	}
	if config.Namespace == "" {
		config.Namespace = defaultNamespace
	}
	if config.Network == "" {
		config.Network = h.lab.config.Families.network()
	}
	var err error
	if config.Network, err = labelled(config.Network, config.Labels); err != nil {
		return nil, fmt.Errorf("add pod %s: %w", config.Name, err)
	}
	if config.Network, err = portsNamed(config.Network, config.Ports); err != nil {
		return nil, fmt.Errorf("add pod %s: %w", config.Name, err)
	}
	id := make([]byte, 32)
	if _, err := rand.Read(id); err != nil {
		return nil, fmt.Errorf("add pod %s: %w", config.Name, err)
	}
	p := &Pod{PodConfig: config, Host: h, ContainerID: hex.EncodeToString(id)}
	// The runtime makes the namespace and its loopback interface; the plugin does the rest.
	batch := fmt.Sprintf("netns add %[1]s\nnetns exec %[1]s ip link set lo up\n", p.netns())
	if err := h.space.ip(ctx, batch); err != nil {
		return nil, fmt.Errorf("add pod %s: %w", p.Name, err)
	}
	if err := p.attach(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("add pod %s: %w", p.Name, err), h.space.ip(ctx, "netns del "+p.netns()+"\n"))
	}
	h.lab.mu.Lock()
	h.pods = append(h.pods, p)
	h.lab.mu.Unlock()
	h.lab.log.Info("pod added", "host", h.Name, "pod", p.Name, "addresses", p.Addresses())
	return p, nil
}

// labelled adds labels to a network configuration, as CNI's conventions have them. What a test breaks on purpose
// stays as it is if there are none.
func labelled(network string, labels map[string]string) (string, error) {
	if len(labels) == 0 {
		return network, nil
	}
	pairs := []map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		pairs = append(pairs, map[string]string{"key": key, "value": labels[key]})
	}
	return withArg(network, "labels", pairs)
}

// portsNamed adds named ports, which are korat's own.
func portsNamed(network string, ports []endpoint.Port) (string, error) {
	if len(ports) == 0 {
		return network, nil
	}
	return withArg(network, "ports", ports)
}

// withArg puts a value into args.cni.
func withArg(network, key string, value any) (string, error) {
	var config map[string]any
	if err := json.Unmarshal([]byte(network), &config); err != nil {
		return "", fmt.Errorf("read network configuration %q: %w", network, err)
	}
	args, _ := config["args"].(map[string]any)
	cni, _ := args["cni"].(map[string]any)
	if args == nil {
		args = map[string]any{}
	}
	if cni == nil {
		cni = map[string]any{}
	}
	cni[key], args["cni"], config["args"] = value, cni, args
	out, err := json.Marshal(config)
	return string(out), err
}

// attach calls ADD and reads its result.
func (p *Pod) attach(ctx context.Context) error {
	if p.Before != nil {
		if err := p.Before(p); err != nil {
			return err
		}
	}
	out, err := p.CNI(ctx, "ADD")
	if err != nil {
		return err
	}
	result, err := types100.NewResult([]byte(out))
	if err != nil {
		return fmt.Errorf("read CNI result %q: %w", out, err)
	}
	p.Result = result.(*types100.Result)
	if !p.Address().IsValid() {
		return fmt.Errorf("read CNI result %q: it has no address", out)
	}
	return nil
}

// CNI calls the plugin for the pod's eth0.
func (p *Pod) CNI(ctx context.Context, command string) (string, error) {
	args := fmt.Sprintf("IgnoreUnknown=1;K8S_POD_NAMESPACE=%s;K8S_POD_NAME=%s;K8S_POD_INFRA_CONTAINER_ID=%s", p.Namespace, p.Name, p.ContainerID)
	if p.Args != "" {
		args += ";" + p.Args
	}
	return p.Host.CNI(ctx, CNI{
		Command: command, ContainerID: p.ContainerID, NetNS: p.NetNS(), IfName: "eth0", Args: args, Config: p.Network,
	})
}

// netns is the network namespace's name.
func (p *Pod) netns() string {
	if p.Namespace == defaultNamespace {
		return p.Name
	}
	return p.Namespace + "-" + p.Name
}

// NetNS is the path of the network namespace on the host.
func (p *Pod) NetNS() string { return "/run/netns/" + p.netns() }

// Address is the pod's first address: IPv4 if it has one.
func (p *Pod) Address() netip.Addr {
	for _, a := range p.Addresses() {
		return a
	}
	return netip.Addr{}
}

// Addresses are all that the plugin has told of, IPv4 first.
func (p *Pod) Addresses() []netip.Addr {
	if p.Result == nil {
		return nil
	}
	var all []netip.Addr
	for _, ip := range p.Result.IPs {
		a, _ := netip.AddrFromSlice(ip.Address.IP) // The result's parser has checked it.
		all = append(all, a.Unmap())
	}
	slices.SortStableFunc(all, func(a, b netip.Addr) int { return cmp.Compare(a.BitLen(), b.BitLen()) })
	return all
}

// enter is the command line that runs argv in the pod's network and the host's file system.
func (p *Pod) enter(argv []string) []string {
	// nsenter opens the file before it goes anywhere, so it has to be named as seen from here.
	return p.Host.space.enterNet("--net="+p.Host.path(p.NetNS()), argv)
}

// Command returns a command that runs in the pod.
func (p *Pod) Command(ctx context.Context, argv ...string) *exec.Cmd {
	return p.Host.lab.command(ctx, p.enter(argv))
}

// Exec runs a program in the pod and returns its standard output, as Host.Exec does.
func (p *Pod) Exec(ctx context.Context, argv ...string) (string, error) {
	return output(p.Command(ctx, argv...), p.Host.Name+"/"+p.Name, argv)
}

// Start starts a program that stays, as Host.Start does.
func (p *Pod) Start(name string, argv ...string) (*Process, error) {
	return p.Host.start(p.Name+"-"+name, p.enter(argv))
}

// Delete detaches the pod and removes its network namespace, as a runtime does.
func (p *Pod) Delete(ctx context.Context) error {
	if _, err := p.CNI(ctx, "DEL"); err != nil {
		return fmt.Errorf("delete pod %s: %w", p.Name, err)
	}
	if err := p.Host.space.ip(ctx, "netns del "+p.netns()+"\n"); err != nil {
		return fmt.Errorf("delete pod %s: %w", p.Name, err)
	}
	l := p.Host.lab
	l.mu.Lock()
	defer l.mu.Unlock()
	p.Host.pods = slices.DeleteFunc(p.Host.pods, func(other *Pod) bool { return other == p })
	l.log.Info("pod deleted", "host", p.Host.Name, "pod", p.Name)
	return nil
}

// Pods returns the host's pods in the order in which they were added.
func (h *Host) Pods() []*Pod {
	h.lab.mu.Lock()
	defer h.lab.mu.Unlock()
	return slices.Clone(h.pods)
}
