// SPDX-License-Identifier: Apache-2.0

package cniplugin

import (
	"fmt"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/containernetworking/cni/pkg/types"

	"korat/cni-plugin/socket"
)

// The longest names: a container ID becomes part of names in the datastore, which are DNS subdomains;
// an interface's name is IFNAMSIZ without the final zero.
const (
	maxName   = 253
	maxIfName = 15
	// maxPath is PATH_MAX without the final zero.
	maxPath = 4095
)

// checkEnvironment refuses values that the specification or the kernel would not take, before skel
// sees them: its messages do not name the variable, as the specification asks. Missing values are skel's.
func checkEnvironment(getenv func(string) string) *types.Error {
	switch getenv("CNI_COMMAND") {
	case "ADD", "DEL", "CHECK":
	default:
		return nil
	}
	checks := []struct {
		name  string
		check func(string) string
	}{
		{"CNI_CONTAINERID", badContainerID},
		{"CNI_IFNAME", badIfName},
		{"CNI_NETNS", badPath},
	}
	for _, c := range checks {
		value := getenv(c.name)
		if value == "" {
			continue
		}
		if fault := c.check(value); fault != "" {
			return types.NewError(socket.CodeInvalidEnv, fmt.Sprintf("%s %s: %s", c.name, quote(value), fault), "")
		}
	}
	return nil
}

// badContainerID checks the specification's ^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$.
func badContainerID(id string) string {
	for i, r := range id {
		if !alphanumeric(r) && (i == 0 || !strings.ContainsRune("_.-", r)) {
			return "a container ID begins with a letter or digit, and letters, digits, '_', '.' and '-' follow"
		}
	}
	if len(id) > maxName {
		return fmt.Sprintf("it has %d characters: at most %d are allowed", len(id), maxName)
	}
	return ""
}

func alphanumeric(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}

// badIfName checks what the kernel allows (dev_valid_name), less what it or sysctl would take for
// something else: "%d" is a pattern, and "all" and "default" stand for more than one interface.
func badIfName(name string) string {
	switch {
	case len(name) > maxIfName:
		return fmt.Sprintf("it has %d bytes: an interface's name has at most %d", len(name), maxIfName)
	case name == "." || name == ".." || name == "all" || name == "default" || name == "lo":
		return "the name is reserved: choose another, such as eth0"
	case name[0] == '-':
		return "an interface's name may not begin with '-'"
	case strings.ContainsFunc(name, func(r rune) bool {
		return r == '/' || r == ':' || r == '%' || r > unicode.MaxASCII || unicode.IsSpace(r) || !unicode.IsPrint(r)
	}):
		return "an interface's name may not hold '/', ':', '%', blanks or anything but printable ASCII"
	}
	return ""
}

func badPath(path string) string {
	if !filepath.IsAbs(path) {
		return "it must be an absolute path"
	}
	if strings.Contains(path, "\x00") {
		return "a path may not hold a zero byte"
	}
	if len(path) > maxPath {
		return fmt.Sprintf("it has %d bytes: a path has at most %d", len(path), maxPath)
	}
	return ""
}

// quote shows untrusted text, shortened.
func quote(s string) string {
	const longest = 80
	if len(s) > longest {
		return fmt.Sprintf("%q…", s[:longest])
	}
	return fmt.Sprintf("%q", s)
}
