// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"korat/api"
	"korat/felix/kernel"
	"korat/felix/reconcile"
	"korat/policy"
	"korat/policy/chain"
	"korat/test/netns"
)

// setHost is a namespace for sets.
type setHost struct {
	host
	sets *kernel.Sets
}

func newSetHost(t testing.TB) setHost {
	t.Helper()
	h := host{netns.New(t), t}
	return setHost{h, h.open().Sets(0)}
}

// save is what ipset says of the sets, sorted, without what it says of all that are alike: create lines have the
// set's type, family and maxelem.
func (h setHost) save() string {
	h.t.Helper()
	var lines []string
	for line := range strings.Lines(h.Run("ipset", "save")) {
		words := strings.Fields(line)
		for _, key := range []string{"hashsize", "bucketsize", "initval"} {
			if i := slices.Index(words, key); i >= 0 {
				words = slices.Delete(words, i, i+2)
			}
		}
		lines = append(lines, strings.Join(words, " ")+"\n")
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// restore gives ipset one command per line.
func (h setHost) restore(lines ...string) {
	h.t.Helper()
	h.Run(append([]string{"sh", "-c", `printf '%s\n' "$@" | ipset restore`, "sh"}, lines...)...)
}

func (h setHost) write(changes ...kernel.SetChange) {
	h.t.Helper()
	if err := h.sets.Write(h.t.Context(), changes); err != nil {
		h.t.Fatal(err)
	}
}

// read is what Read gives: "IPv4 cali40s:x: 10.0.0.1/32 10.0.0.2/32".
func (h setHost) read() string {
	h.t.Helper()
	have, err := h.sets.Read(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	sizes, err := h.sets.ReadSizes(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	want := map[policy.SetKey]int{}
	var lines []string
	for key, members := range have {
		line := fmt.Sprintf("%v %s kind %d:", key.Family, key.Name, key.Kind)
		for _, m := range slices.SortedFunc(maps.Keys(members), policy.Member.Compare) {
			line += " " + m.String()
		}
		lines = append(lines, line+"\n")
		if want[key] = len(members); key.Family == 0 {
			want[key] = sizes[key]
		}
	}
	equal(h.t, "sizes", want, sizes)
	slices.Sort(lines)
	return strings.Join(lines, "")
}

func set4(name string) policy.SetKey { return policy.SetKey{Name: name, Family: api.IPv4} }

// members parses "10.0.0.0/24", "10.0.0.1,6:80" and "80".
func members(texts ...string) []policy.Member {
	all := make([]policy.Member, 0, len(texts))
	for _, text := range texts {
		addr, port, _ := strings.Cut(text, ",")
		m := policy.Member{}
		if n, err := strconv.Atoi(addr); err == nil {
			m.Port = uint16(n)
		} else if port == "" {
			m.Prefix = netip.MustParsePrefix(addr)
		} else {
			a := netip.MustParseAddr(addr)
			m.Prefix = netip.PrefixFrom(a, a.BitLen())
			if _, err := fmt.Sscanf(port, "%d:%d", &m.Protocol, &m.Port); err != nil {
				return nil
			}
		}
		all = append(all, m)
	}
	return all
}

func TestSets(t *testing.T) {
	h := newSetHost(t)
	nets4, nets6 := set4("cali40s:abc"), policy.SetKey{Name: "cali60s:abc", Family: api.IPv6}
	named4 := policy.SetKey{Name: "cali40n:abc", Family: api.IPv4, Kind: policy.AddressPorts}
	named6 := policy.SetKey{Name: "cali60n:abc", Family: api.IPv6, Kind: policy.AddressPorts}
	ports := policy.SetKey{Name: "cali40p:abc", Family: api.IPv4, Kind: policy.PortNumbers}
	ports6 := policy.SetKey{Name: "cali60p:abcdefghijklmnopqrstuvw", Family: api.IPv6, Kind: policy.PortNumbers}
	h.restore("create docker hash:ip", "add docker 192.0.2.1")
	h.write(
		kernel.SetChange{Key: nets4, Replace: true, Add: members("10.0.0.1/32", "10.1.0.0/16", "0.0.0.0/1", "128.0.0.0/1", "10.0.0.1/32")},
		kernel.SetChange{Key: nets6, Replace: true, Add: members("fd00::1/128", "fd00:1::/64", "::/1")},
		kernel.SetChange{Key: named4, Replace: true, Add: members("10.0.0.1,6:80", "10.0.0.1,17:53", "10.0.0.1,132:5000", "10.0.0.1,136:5001")},
		kernel.SetChange{Key: named6, Replace: true, Add: members("fd00::1,6:80")},
		kernel.SetChange{Key: ports, Replace: true, Add: members("0", "80", "65535")},
		kernel.SetChange{Key: ports6, Replace: true},
	)
	want := `add cali40n:abc 10.0.0.1,sctp:5000
add cali40n:abc 10.0.0.1,tcp:80
add cali40n:abc 10.0.0.1,udp:53
add cali40n:abc 10.0.0.1,udplite:5001
add cali40p:abc 0
add cali40p:abc 65535
add cali40p:abc 80
add cali40s:abc 0.0.0.0/1
add cali40s:abc 10.0.0.1
add cali40s:abc 10.1.0.0/16
add cali40s:abc 128.0.0.0/1
add cali60n:abc fd00::1,tcp:80
add cali60s:abc ::/1
add cali60s:abc fd00:1::/64
add cali60s:abc fd00::1
add docker 192.0.2.1
create cali40n:abc hash:ip,port family inet maxelem 1048576
create cali40p:abc bitmap:port range 0-65535
create cali40s:abc hash:net family inet maxelem 1048576
create cali60n:abc hash:ip,port family inet6 maxelem 1048576
create cali60p:abcdefghijklmnopqrstuvw bitmap:port range 0-65535
create cali60s:abc hash:net family inet6 maxelem 1048576
create docker hash:ip family inet maxelem 65536
`
	equal(t, "ipset save", want, h.save())
	equal(t, "read", `IPv4 cali40n:abc kind 1: 10.0.0.1,6:80 10.0.0.1,17:53 10.0.0.1,132:5000 10.0.0.1,136:5001
IPv4 cali40p:abc kind 2: 0 80 65535
IPv4 cali40s:abc kind 0: 0.0.0.0/1 10.0.0.1/32 10.1.0.0/16 128.0.0.0/1
IPv6 cali60n:abc kind 1: fd00::1,6:80
IPv6 cali60p:abcdefghijklmnopqrstuvw kind 2:
IPv6 cali60s:abc kind 0: ::/1 fd00::1/128 fd00:1::/64
`, h.read())

	// Adding what is there and removing what is not is success.
	h.write(
		kernel.SetChange{Key: nets4, Add: members("10.0.0.1/32", "10.0.0.2/32"), Remove: members("0.0.0.0/1", "128.0.0.0/1", "10.0.0.9/32")},
		kernel.SetChange{Key: nets6, Replace: true},
		kernel.SetChange{Key: named4, Remove: members("10.0.0.1,17:53", "10.0.0.1,132:5000", "10.0.0.1,136:5001")},
		kernel.SetChange{Key: named6, Destroy: true},
		kernel.SetChange{Key: ports, Add: members("443"), Remove: members("0", "65535", "1")},
		kernel.SetChange{Key: ports6, Destroy: true},
		kernel.SetChange{Key: set4("cali40s:never"), Destroy: true},
	)
	equal(t, "read", `IPv4 cali40n:abc kind 1: 10.0.0.1,6:80
IPv4 cali40p:abc kind 2: 80 443
IPv4 cali40s:abc kind 0: 10.0.0.1/32 10.0.0.2/32 10.1.0.0/16
IPv6 cali60s:abc kind 0:
`, h.read())
}

// A set that is not as we make them comes under a key that nothing wants, and what Replace makes of it is not
// destroyed by what was meant for that.
func TestStrangeSets(t *testing.T) {
	h := newSetHost(t)
	h.restore(
		"create cali40s:type hash:ip,port maxelem 1048576", "add cali40s:type 10.0.0.1,tcp:80",
		"create cali40s:family hash:net family inet6",
		"create cali40s:size hash:net maxelem 1000", "add cali40s:size 10.0.0.1",
		"create cali40s:timeout hash:net timeout 10 maxelem 1048576",
		"create cali40s:counters hash:net counters maxelem 1048576",
		"create cali40s:exception hash:net maxelem 1048576", "add cali40s:exception 10.0.0.1", "add cali40s:exception 10.0.0.0/24 nomatch",
		"create cali40s:mac hash:ip maxelem 1048576",
		"create cali40p:range bitmap:port range 0-1023",
		"create cali4t7 hash:net maxelem 1048576", "create cali6t7 hash:net maxelem 1048576",
		"create cali40s:good hash:net maxelem 1048576", "add cali40s:good 10.0.0.1",
	)
	strange := []string{
		"cali40s:family", "cali40s:size", "cali40s:timeout", "cali40s:counters", "cali40s:exception", "cali40s:mac",
		"cali40p:range", "cali4t7", "cali6t7",
	}
	have, err := h.sets.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range strange {
		if members, ok := have[policy.SetKey{Name: name}]; !ok || len(members) > 0 {
			t.Errorf("%s: have %v", name, have)
		}
	}
	// The type fits the key's Kind, not what is wanted.
	typed := policy.SetKey{Name: "cali40s:type", Family: api.IPv4, Kind: policy.AddressPorts}
	equal(t, "of another kind", 1, len(have[typed]))

	destroy := []kernel.SetChange{{Key: typed, Destroy: true}}
	for _, name := range strange {
		destroy = append(destroy, kernel.SetChange{Key: policy.SetKey{Name: name}, Destroy: true})
	}
	var replace []kernel.SetChange
	for _, name := range []string{"type", "family", "size", "timeout", "counters", "exception", "mac"} {
		replace = append(replace, kernel.SetChange{Key: set4("cali40s:" + name), Replace: true, Add: members("10.0.0.2/32")})
	}
	replace = append(replace, kernel.SetChange{
		Key: policy.SetKey{Name: "cali40p:range", Family: api.IPv4, Kind: policy.PortNumbers}, Replace: true, Add: members("8080"),
	})
	h.write(replace...)
	h.write(destroy...)
	equal(t, "read", `IPv4 cali40p:range kind 2: 8080
IPv4 cali40s:counters kind 0: 10.0.0.2/32
IPv4 cali40s:exception kind 0: 10.0.0.2/32
IPv4 cali40s:family kind 0: 10.0.0.2/32
IPv4 cali40s:good kind 0: 10.0.0.1/32
IPv4 cali40s:mac kind 0: 10.0.0.2/32
IPv4 cali40s:size kind 0: 10.0.0.2/32
IPv4 cali40s:timeout kind 0: 10.0.0.2/32
IPv4 cali40s:type kind 0: 10.0.0.2/32
`, h.read())
}

// Each set fails alone, and says what of it is wrong.
func TestSetsFail(t *testing.T) {
	h := newSetHost(t)
	h.sets = h.open().Sets(3)
	full, used, other := set4("cali40s:full"), set4("cali40s:used"), set4("cali40s:other")
	h.write(
		kernel.SetChange{Key: full, Replace: true, Add: members("10.0.0.1/32", "10.0.0.2/32")},
		kernel.SetChange{Key: used, Replace: true, Add: members("10.0.0.1/32")},
	)
	h.Run("iptables", "-w", "-A", "INPUT", "-m", "set", "--match-set", used.Name, "src", "-j", "DROP")
	h.restore("create cali40s:other hash:ip,port maxelem 3")
	h.Run("iptables", "-w", "-A", "INPUT", "-m", "set", "--match-set", other.Name, "src,src", "-j", "DROP")
	before := h.save()
	four := members("10.1.0.1/32", "10.1.0.2/32", "10.1.0.3/32", "10.1.0.4/32")
	ports := policy.SetKey{Name: "cali40p:a", Family: api.IPv4, Kind: policy.PortNumbers}
	named := policy.SetKey{Name: "cali40n:a", Family: api.IPv4, Kind: policy.AddressPorts}
	for _, c := range []struct {
		change kernel.SetChange
		want   string
	}{
		{
			kernel.SetChange{Key: full, Replace: true, Add: four},
			"add to set cali40s:full member 10.1.0.4/32: the set is full: it can have 3 members (maxelem); raise maxIpsetSize in the FelixConfiguration",
		},
		{kernel.SetChange{Key: used, Destroy: true}, "destroy set cali40s:used: rules refer to it"},
		{
			kernel.SetChange{Key: other, Replace: true, Add: members("10.0.0.1/32")},
			"replace a set of another type: destroy set cali40s:other: rules refer to it",
		},
		{kernel.SetChange{Key: set4("cali40s:gone"), Add: four}, "add to set cali40s:gone: there is no such set"},
		{kernel.SetChange{Key: set4("cali40s:gone"), Remove: four}, "remove from set cali40s:gone: there is no such set"},
		{
			kernel.SetChange{Key: used, Add: members("0.0.0.0/0")},
			"write set cali40s:used: member 0.0.0.0/0: a set can't hold a prefix of length 0: it has to be written as its two halves",
		},
		{kernel.SetChange{Key: used, Add: members("10.0.0.1/24")}, "write set cali40s:used: member 10.0.0.1/24: not a prefix, or one with host bits set"},
		{kernel.SetChange{Key: used, Remove: members("fd00::/64")}, "write set cali40s:used: member fd00::/64: not an IPv4 prefix"},
		{kernel.SetChange{Key: used, Add: members("80")}, "write set cali40s:used: member 80: not a prefix, or one with host bits set"},
		{kernel.SetChange{Key: used, Add: members("10.0.0.1,6:80")}, "write set cali40s:used: member 10.0.0.1,6:80: not a prefix alone"},
		{kernel.SetChange{Key: ports, Add: members("10.0.0.0/8")}, "write set cali40p:a: member 10.0.0.0/8: not a port alone"},
		{
			kernel.SetChange{Key: named, Add: members("10.0.0.1,1:8")},
			"write set cali40n:a: member 10.0.0.1,1:8: not one address with a port of TCP, UDP, UDP-Lite or SCTP",
		},
		{
			kernel.SetChange{Key: set4("docker"), Destroy: true},
			"write set docker: not a name of ours, which begin with cali40 or cali60 and have at most 31 bytes",
		},
		{
			kernel.SetChange{Key: set4("cali40s:abcdefghijklmnopqrstuvwx"), Replace: true},
			"write set cali40s:abcdefghijklmnopqrstuvwx: not a name of ours, which begin with cali40 or cali60 and have at most 31 bytes",
		},
		{kernel.SetChange{Key: set4("cali4t1"), Replace: true}, "write set cali4t1: a name of temporary sets"},
		{kernel.SetChange{Key: set4("cali60s:a"), Replace: true}, "write set cali60s:a: its name is not that of an IPv4 set"},
		{kernel.SetChange{Key: policy.SetKey{Name: "cali40s:a", Family: api.IPv4, Kind: 9}, Replace: true}, "write set cali40s:a: 9 is no kind of sets"},
	} {
		good := set4("cali40s:good")
		err := h.sets.Write(t.Context(), []kernel.SetChange{c.change, {Key: good, Replace: true, Add: members("10.0.0.1/32")}})
		have, failed := "", (*reconcile.WriteError[policy.SetKey])(nil)
		if err != nil {
			have = err.Error()
		}
		equal(t, "error", c.want, have)
		if !errors.As(err, &failed) || failed.Failed[c.change.Key] == nil {
			t.Errorf("%v: have %#v", c.change, err)
		}
		if inUse := strings.Contains(c.want, "rules refer to it"); errors.Is(err, kernel.ErrSetInUse) != inUse {
			t.Errorf("%v: in use: want %v", err, inUse)
		}
		h.write(kernel.SetChange{Key: good, Destroy: true})
		equal(t, "ipset save after "+c.want, before, h.save())
	}

	// What is full takes what there is room for.
	err := h.sets.Write(t.Context(), []kernel.SetChange{{Key: full, Add: four}, {Key: used, Add: members("10.0.0.7/32")}})
	if err == nil || !strings.Contains(err.Error(), "cali40s:full member 10.1.0.2/32: the set is full") {
		t.Errorf("have %v", err)
	}
	equal(t, "read", `IPv4 cali40s:full kind 0: 10.0.0.1/32 10.0.0.2/32 10.1.0.1/32
IPv4 cali40s:other kind 1:
IPv4 cali40s:used kind 0: 10.0.0.1/32 10.0.0.7/32
`, h.read())
}

// A set that rules refer to is replaced under them.
func TestSetInUseIsReplaced(t *testing.T) {
	h := newSetHost(t)
	key := set4("cali40s:used")
	h.write(kernel.SetChange{Key: key, Replace: true, Add: members("127.0.0.0/8")})
	h.Run("iptables", "-w", "-A", "OUTPUT", "-m", "set", "--match-set", key.Name, "dst", "-j", "DROP")
	if _, err := h.Try("ping", "-c1", "-W0.2", "127.0.0.1"); err == nil {
		t.Error("the set does not match before")
	}
	h.write(kernel.SetChange{Key: key, Replace: true, Add: members("10.0.0.0/8")})
	h.Run("ping", "-c1", "-W0.2", "127.0.0.1")
	h.write(kernel.SetChange{Key: key, Add: members("127.0.0.1/32")})
	if _, err := h.Try("ping", "-c1", "-W0.2", "127.0.0.1"); err == nil {
		t.Error("the set does not match after")
	}
	equal(t, "read", "IPv4 cali40s:used kind 0: 10.0.0.0/8 127.0.0.1/32\n", h.read())
}

// A set can go as soon as the last rule that refers to it has gone; by nftables that is a little later.
func TestSetGoesAfterItsRules(t *testing.T) {
	eachBackend(t, func(t *testing.T, f filterHost) {
		h := setHost{f.host, f.handle.Sets(0)}
		step := reconcile.NewStep("chains", f.chains(f.config()))
		used := set4("cali40s:used")
		destroy := kernel.SetChange{Key: used, Destroy: true}
		rule := chain.NewRule("", drop, chain.InSet{Set: used.Name})
		for range 5 {
			h.write(kernel.SetChange{Key: used, Replace: true, Add: members("10.0.0.1/32")})
			apply(t, step, chains{key(api.IPv4, chain.Filter, "cali-a"): rules(rule)})
			if err := h.sets.Write(t.Context(), []kernel.SetChange{destroy}); !errors.Is(err, kernel.ErrSetInUse) {
				t.Errorf("have %v", err)
			}
			apply(t, step, chains{key(api.IPv4, chain.Filter, "cali-a"): rules()})
			netns.WaitFor(t, "the set goes", func() bool {
				err := h.sets.Write(t.Context(), []kernel.SetChange{destroy})
				if err != nil && !errors.Is(err, kernel.ErrSetInUse) {
					t.Fatal(err)
				}
				return err == nil
			})
			equal(t, "ipset save", "", h.save())
		}
	})
}

// Sets that were made for another number of members are made anew, under the rules that refer to them.
func TestLimit(t *testing.T) {
	h := newSetHost(t)
	used := set4("cali40s:used")
	replace := kernel.SetChange{Key: used, Replace: true, Add: members("10.0.0.1/32", "10.0.0.2/32")}
	h.write(replace)
	h.Run("iptables", "-w", "-A", "INPUT", "-m", "set", "--match-set", used.Name, "src", "-j", "DROP")
	if h.sets.Limit(0) || !h.sets.Limit(100) || h.sets.Limit(100) {
		t.Error("want another limit to be noticed, and the same not to be")
	}
	equal(t, "read", fmt.Sprintf("%v cali40s:used kind 0:\n", api.Family(0)), h.read())
	h.write(replace)
	equal(t, "read", "IPv4 cali40s:used kind 0: 10.0.0.1/32 10.0.0.2/32\n", h.read())
	if text := h.save(); !strings.Contains(text, "maxelem 100\n") {
		t.Errorf("have\n%s", text)
	}
}

// Many members and many sets, in both directions, with the kernel's list in many messages.
func TestManyMembers(t *testing.T) {
	h := newSetHost(t)
	big := set4("cali40s:big")
	all := manyMembers(20_000)
	h.write(kernel.SetChange{Key: big, Replace: true, Add: all})
	var changes []kernel.SetChange
	for i := range 300 {
		changes = append(changes, kernel.SetChange{Key: set4(fmt.Sprintf("cali40s:%d", i)), Replace: true, Add: all[i : i+3]})
	}
	h.write(changes...)
	h.write(kernel.SetChange{Key: big, Remove: all[5_000:], Add: members("192.0.2.0/24")})
	have, err := h.sets.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := map[policy.Member]struct{}{members("192.0.2.0/24")[0]: {}}
	for _, m := range all[:5_000] {
		want[m] = struct{}{}
	}
	if !maps.Equal(want, have[big]) {
		t.Errorf("have %d members, want %d", len(have[big]), len(want))
	}
	equal(t, "sets", 301, len(have))
	equal(t, "members of a small one", 3, len(have[set4("cali40s:299")]))
	equal(t, "lines of ipset save", 5_001+301+300*3, strings.Count(h.Run("ipset", "save"), "\n"))
}

// manyMembers gives n addresses.
func manyMembers(n int) []policy.Member {
	all := make([]policy.Member, n)
	for i := range all {
		all[i].Prefix = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)
	}
	return all
}
