// SPDX-License-Identifier: Apache-2.0

package cniplugin

import (
	"path/filepath"
	"strings"
	"testing"
)

// FuzzCheckEnvironment: a name that is taken is one path element below any directory, is no option of any
// program, and needs no quoting; a path that is taken is absolute.
func FuzzCheckEnvironment(f *testing.F) {
	f.Add("c1", "eth0", "/run/netns/x")
	f.Add("../c1", "..", "../../proc/1/ns/net")
	f.Add("-c", "-rf", "-")
	f.Add("c\x00", "a/b", "/run/netns/\x00")
	f.Add(strings.Repeat("c", 300), strings.Repeat("e", 16), "/"+strings.Repeat("n", 5000))
	f.Fuzz(func(t *testing.T, container, ifName, netNS string) {
		env := map[string]string{"CNI_COMMAND": "ADD", "CNI_CONTAINERID": container, "CNI_IFNAME": ifName, "CNI_NETNS": netNS}
		if err := checkEnvironment(func(name string) string { return env[name] }); err != nil {
			if err.Code != 4 || !strings.Contains(err.Msg, "CNI_") || len(err.Msg) > 1000 {
				t.Errorf("have %+v, want code 4 and the variable", err)
			}
			return
		}
		for name, longest := range map[string]int{container: 253, ifName: 15} {
			if name == "" {
				continue // skel's
			}
			if filepath.Join("/a/b", name) != "/a/b/"+name || strings.HasPrefix(name, "-") || len(name) > longest ||
				strings.ContainsAny(name, "/\x00 \t\r\n%:") {
				t.Errorf("took %q", name)
			}
		}
		if netNS != "" && (!filepath.IsAbs(netNS) || strings.Contains(netNS, "\x00")) {
			t.Errorf("took %q", netNS)
		}
	})
}

// FuzzValidAttachments: GC's list is understood whole or not at all.
func FuzzValidAttachments(f *testing.F) {
	f.Add([]byte(`{"name": "n", "cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]}`))
	f.Add([]byte(`{"cni.dev/valid-attachments": null}`))
	f.Add([]byte(`{"cni.dev/valid-attachments": [{"containerID": "c1"}]}`))
	f.Add([]byte(`{"cni.dev/valid-attachments": {}, "CNI.dev/valid-attachments": []}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		valid, given, err := validAttachments(data)
		if (err != nil || !given) && len(valid) != 0 {
			t.Errorf("%q: have %v with %t, %v", data, valid, given, err)
		}
		for _, id := range valid {
			if id.ContainerID == "" || id.IfName == "" {
				t.Errorf("%q: took %+v", data, id)
			}
		}
	})
}
