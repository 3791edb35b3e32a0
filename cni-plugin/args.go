// SPDX-License-Identifier: Apache-2.0

package cniplugin

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"korat/cni-plugin/socket"
)

// defaultNamespace is where the pods of a runtime without Kubernetes are.
const defaultNamespace = "default"

// Args is what CNI_ARGS said.
type Args struct {
	// Namespace and Pod name the workload.
	Namespace string
	Pod       string
	// Addresses are those asked for, at most one of each family.
	Addresses []netip.Addr
}

// ParseArgs reads CNI_ARGS: "KEY=VALUE;KEY=VALUE". Without Kubernetes' keys the pod is called as its
// container.
func ParseArgs(text, containerID string) (Args, *types.Error) {
	args := Args{Namespace: defaultNamespace, Pod: containerID}
	pairs, err := splitArgs(text)
	if err == nil {
		err = args.set(pairs)
	}
	if err != nil {
		return args, types.NewError(socket.CodeInvalidEnv, "CNI_ARGS: "+err.Error(), "")
	}
	return args, nil
}

func splitArgs(text string) (map[string]string, error) {
	pairs := map[string]string{}
	if text == "" {
		return pairs, nil
	}
	for pair := range strings.SplitSeq(text, ";") {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("%s: want KEY=VALUE, separated by ';'", quote(pair))
		}
		if _, twice := pairs[key]; twice {
			return nil, fmt.Errorf("%s is given twice", quote(key))
		}
		pairs[key] = value
	}
	return pairs, nil
}

func (a *Args) set(pairs map[string]string) error {
	ignoreUnknown := false
	if text, ok := pairs["IgnoreUnknown"]; ok {
		var err error
		if ignoreUnknown, err = strconv.ParseBool(text); err != nil {
			return fmt.Errorf("IgnoreUnknown=%s: want 1 or 0", quote(text))
		}
	}
	for key, value := range pairs {
		switch key {
		case "IgnoreUnknown", "K8S_POD_INFRA_CONTAINER_ID", "K8S_POD_UID", "K8S_POD_NAMESPACE", "K8S_POD_NAME":
		case "IP":
			if err := a.setAddresses(value); err != nil {
				return fmt.Errorf("IP=%s: %w", quote(value), err)
			}
		default:
			if !ignoreUnknown {
				return fmt.Errorf("%s is not known: leave it out, or add IgnoreUnknown=1", quote(key))
			}
		}
	}
	return a.setPod(pairs)
}

func (a *Args) setPod(pairs map[string]string) error {
	namespace, pod := pairs["K8S_POD_NAMESPACE"], pairs["K8S_POD_NAME"]
	switch {
	case namespace == "" && pod == "":
		return nil
	case namespace == "" || pod == "":
		return errors.New("K8S_POD_NAMESPACE and K8S_POD_NAME come together: one is missing")
	}
	if fault := badDNSName(namespace, 63); fault != "" {
		return fmt.Errorf("K8S_POD_NAMESPACE=%s: %s", quote(namespace), fault)
	}
	if strings.Contains(namespace, ".") {
		return fmt.Errorf("K8S_POD_NAMESPACE=%s: a namespace has no dots in its name: no policy could be in it", quote(namespace))
	}
	if fault := badDNSName(pod, maxName); fault != "" {
		return fmt.Errorf("K8S_POD_NAME=%s: %s", quote(pod), fault)
	}
	a.Namespace, a.Pod = namespace, pod
	return nil
}

// setAddresses reads "172.17.0.5", "fd00::5" or both with a comma between them.
func (a *Args) setAddresses(text string) error {
	for part := range strings.SplitSeq(text, ",") {
		addr, err := podAddress(part)
		if err != nil {
			return err
		}
		if sameFamily(a.Addresses, addr).IsValid() {
			return fmt.Errorf("a pod has one IPv%d address", versionOf(addr))
		}
		a.Addresses = append(a.Addresses, addr)
	}
	return nil
}

// badDNSName checks for what Kubernetes calls pods and namespaces: a lower-case DNS subdomain.
func badDNSName(name string, longest int) string {
	if len(name) > longest {
		return fmt.Sprintf("it has %d characters: at most %d are allowed", len(name), longest)
	}
	for label := range strings.SplitSeq(name, ".") {
		plain := strings.ToLower(label) == label && !strings.ContainsFunc(label, func(r rune) bool { return !alphanumeric(r) && r != '-' })
		if label == "" || !plain || label[0] == '-' || label[len(label)-1] == '-' {
			return "want lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit"
		}
	}
	return ""
}
