// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"korat/api"
	"korat/felix/kernel"
	"korat/felix/reconcile"
	"korat/policy/chain"
)

// settle makes the chains as wanted, where the backend tells of changes when it has told, until that is so.
func (h filterHost) settle(step *reconcile.Step[chain.Key, *chain.Chain], want chains, done func() bool) (sum reconcile.Result) {
	h.t.Helper()
	deadline := time.After(10 * time.Second)
	for !done() {
		if h.backend == kernel.NFT {
			select {
			case <-h.handle.Wake():
			case <-deadline:
				h.t.Fatal("no notice came of a change")
			}
			if !h.handle.Drain().TouchesChains() {
				continue
			}
		}
		step.Invalidate()
		r := apply(h.t, step, want)
		sum.Set, sum.Deleted = sum.Set+r.Set, sum.Deleted+r.Deleted
		if h.backend == kernel.Legacy && !done() {
			break
		}
	}
	return sum
}

// TestDrift has another program change what is ours.
func TestDrift(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, h filterHost) {
		const others = "-A FORWARD -i eth0 -j ACCEPT\n-A FORWARD -o eth0 -j ACCEPT\n"
		h.restoreText("*filter\n" + others + "COMMIT\n")
		step := reconcile.NewStep("chains", h.chains(h.config()))
		want := both(small)
		apply(t, step, want)
		h.handle.Drain()
		text := tables(h.saved(api.IPv4))
		const hook = "-j cali-FORWARD"
		for name, c := range map[string]struct {
			commands []string
			set      int
			// more is what others have then.
			more string
		}{
			"a chain is flushed":              {[]string{"-F cali-FORWARD"}, 1, ""},
			"a rule is deleted":               {[]string{"-D cali-FORWARD 1"}, 1, ""},
			"rules are reordered":             {[]string{"-D cali-from-wl-dispatch 3", "-I cali-from-wl-dispatch 1 -j DROP"}, 1, ""},
			"a rule is inserted":              {[]string{"-I cali-allow 1 -j ACCEPT"}, 1, ""},
			"a rule is there twice":           {[]string{"-A FORWARD " + hook}, 1, ""},
			"a hook is deleted":               {[]string{"-D FORWARD " + hook}, 1, ""},
			"a hook stands behind others":     {[]string{"-D FORWARD " + hook, "-I FORWARD 2 " + hook}, 1, ""},
			"the last rule stands before":     {[]string{"-I FORWARD 2 -m mark --mark 0x10000/0x10000 -j ACCEPT", "-D FORWARD 5"}, 1, "-A FORWARD -m mark --mark 0x10000/0x10000 -j ACCEPT\n"},
			"another's rule comes first":      {[]string{"-I FORWARD 1 -i lo -j ACCEPT"}, 1, "-A FORWARD -i lo -j ACCEPT\n"},
			"a hook of a former version":      {[]string{"-I FORWARD 1 -j cali-allow"}, 1, ""},
			"a chain of ours appears":         {[]string{"-N cali-stray", "-A cali-stray -j DROP"}, 0, ""},
			"a chain has another name":        {[]string{"-E cali-from-wl-dispatch cali-other"}, 2, ""},
			"everything is gone":              {[]string{"-F", "-X"}, 4, ""},
			"everything but a chain is gone":  {[]string{"-F FORWARD", "-F cali-FORWARD", "-F cali-from-wl-dispatch", "-X cali-FORWARD"}, 3, ""},
			"a chain is emptied and replaced": {[]string{"-F cali-allow", "-A cali-allow -j RETURN"}, 1, ""},
		} {
			for _, command := range c.commands {
				h.iptables(command)
			}
			// Others' rules may be gone, or more than there were.
			has := func() string {
				text := h.saved(api.IPv4)
				if strings.HasPrefix(name, "everything") {
					text = strings.Replace(text, "-A FORWARD -j cali-FORWARD\n", "-A FORWARD -j cali-FORWARD\n"+others, 1)
				}
				return strings.Replace(tables(text), "-j cali-FORWARD\n"+c.more, "-j cali-FORWARD\n", 1)
			}
			result := h.settle(step, want, func() bool { return has() == text })
			equal(t, name, text, has())
			if result.Set != c.set || (result.Deleted == 1) != (name == "a chain of ours appears" || name == "a chain has another name") {
				t.Errorf("%s: have %+v", name, result)
			}
			h.restoreText("*filter\n-F FORWARD\n" + others + "COMMIT\n")
			h.settle(step, want, func() bool { return tables(h.saved(api.IPv4)) == text })
			h.handle.Drain()
		}
	})
}

// kubeProxy is the kind of thing that kube-proxy writes.
const kubeProxy = `*filter
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-FIREWALL - [0:0]
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment "cali isn't meant: \"cali-x\"" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A OUTPUT -j KUBE-FIREWALL
COMMIT
*nat
:KUBE-SERVICES - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-SVC-TCOU7JCQXEZGVUNU - [0:0]
:KUBE-SEP-ZZECWQQGTQGGMTZW - [0:0]
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-SERVICES -d 10.96.0.10/32 -p udp -m comment --comment "kube-system/kube-dns:dns cluster IP" -m udp --dport 53 -j KUBE-SVC-TCOU7JCQXEZGVUNU
-A KUBE-SVC-TCOU7JCQXEZGVUNU -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-ZZECWQQGTQGGMTZW
-A KUBE-SEP-ZZECWQQGTQGGMTZW -p udp -m udp -j DNAT --to-destination 10.65.0.3:53
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
COMMIT
`

// calico matches what is ours.
var calico = regexp.MustCompile(`(?m)^(:cali-.*|-A cali-.*|.* -[jg] cali-.*|.*--comment "?cali:[A-Za-z0-9_-]{16}"? .*)\n`)

// TestOthersStayAsTheyAre writes, changes, repairs and removes beside another program's rules.
func TestOthersStayAsTheyAre(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, h filterHost) {
		h.restoreText(kubeProxy)
		h.iptables("-P FORWARD DROP")
		all := func() string {
			return noise.ReplaceAllString(h.Run(h.program(api.IPv4, "-save"), "-t", "filter")+h.Run(h.program(api.IPv4, "-save"), "-t", "nat"), "")
		}
		before := all()
		step := reconcile.NewStep("chains", h.chains(h.config()))
		want := both(small)
		apply(t, step, want)
		equal(t, "after the first write", before, calico.ReplaceAllString(all(), ""))
		forward := h.Run(h.program(api.IPv4, ""), "-S", "FORWARD")
		theirs := strings.Index(forward, "KUBE")
		if strings.Index(forward, "cali-FORWARD") > theirs || strings.Index(forward, "0x10000") < theirs {
			t.Errorf("ours are not first and last:\n%s", forward)
		}
		text := tables(h.saved(api.IPv4))
		h.handle.Drain()
		h.iptables("-F cali-FORWARD")
		h.settle(step, want, func() bool { return tables(h.saved(api.IPv4)) == text })
		equal(t, "after a repair", before, calico.ReplaceAllString(all(), ""))
		apply(t, step, nil)
		equal(t, "after all of ours was removed", before, all())
	})
}
