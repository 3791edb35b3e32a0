// SPDX-License-Identifier: Apache-2.0

package architecture

// Module is the path that patterns are relative to.
const Module = "korat"

// Direction says which packages of this module a package may import. Of several entries that match
// a package the first counts; a package that none matches is a violation.
type Direction struct {
	From string
	May  []string
}

// Ban keeps packages away from packages outside of this module.
type Ban struct {
	// In lists whom it concerns, except for those in But.
	In, But []string
	// Of lists import paths; each stands for everything below it too, except for what is below
	// one of Except.
	Of, Except []string
	// Deep extends the ban to what is imported indirectly.
	Deep bool
	Why  string
}

// Limits are the longest allowed.
type Limits struct {
	FileLines, TestFileLines, FunctionLines, StructFields, Parameters int
}

// Exception allows one thing to be over its limit.
type Exception struct {
	// What is named as in a violation: a file, or "file: name".
	What, Why string
}

// Foreign import paths.
const (
	netlinkModule    = "github.com/vishvananda/netlink"
	netnsModule      = "github.com/vishvananda/netns"
	iptablesModule   = "github.com/coreos/go-iptables"
	gobgpModule      = "github.com/osrg/gobgp"
	etcdModules      = "go.etcd.io"
	grpcModule       = "google.golang.org/grpc"
	kubernetesModule = "k8s.io"
	apimachinery     = "k8s.io/apimachinery"
	clientGo         = "k8s.io/client-go"
)

// A pattern is a package's path within the module; with "/..." at its end it matches everything
// below it as well, and "..." alone everything.

// Pure lists the packages that compute values from values.
var pure = []string{
	"api", "policy/...", "bgp", "bgp/plan", "bgp/fib", "felix/calc", "felix/dataplane", "felix/reconcile",
	"felix/endpoint", "ipam/block", "ipam/audit",
}

// Directions is the import graph within the module. Non-test files count; test/ may import anything.
var Directions = []Direction{
	{"api/wake", nil},
	{"api", []string{"policy/selector"}},
	{"api/store", []string{"api", "api/wake"}},
	{"api/store/storetest", []string{"api", "api/store"}},
	{"api/store/...", []string{"api", "api/store"}},

	{"felix/dataplane", []string{"policy", "policy/chain"}},
	{"felix/endpoint", nil},
	{"felix/reconcile/...", []string{"felix/reconcile"}},
	{"felix/calc", []string{"api", "bgp", "felix/dataplane", "felix/endpoint", "policy/..."}},
	{"felix/kernel/...", []string{
		"api", "api/wake", "felix/dataplane", "felix/reconcile", "felix/kernel/...", "policy", "policy/chain", "policy/render",
	}},
	{"felix/...", []string{
		"api", "api/store", "bgp", "bgp/plan", "bgp/fib", "ipam/...", "felix/...", "cni-plugin/socket", "api/wake", "policy/...",
	}},

	{"bgp", nil},
	{"bgp/plan", []string{"api", "bgp", "felix/dataplane"}},
	{"bgp/fib", []string{"bgp", "felix/dataplane"}},
	{"bgp/speaker/...", []string{"bgp", "bgp/speaker/...", "api/wake"}},

	{"policy/selector", nil},
	{"policy", []string{"api", "policy/selector"}},
	{"policy/chain", []string{"api", "policy"}},
	{"policy/render", []string{"api", "policy", "policy/chain"}},
	// A second opinion that shares nothing with the first.
	{"policy/explain", []string{"api", "policy", "policy/selector"}},
	{"policy/index", []string{"policy", "policy/selector"}},
	{"policy/compile", []string{"api", "policy", "policy/chain", "policy/index", "policy/selector"}},
	{"policy/policytest", []string{"api", "policy", "policy/chain", "policy/compile"}},

	{"ipam/block", []string{"api"}},
	{"ipam/audit", []string{"api", "ipam/block"}},
	{"ipam/...", []string{"api", "api/store", "ipam/...", "felix/endpoint", "api/wake", "policy/selector"}},

	{"cni-plugin/podnet/...", []string{"felix/endpoint", "cni-plugin/socket", "cni-plugin/podnet"}},
	{"cni-plugin/socket", []string{"felix/endpoint"}},
	{"cni-plugin", []string{"felix/endpoint", "cni-plugin/..."}},

	{"cmd/korat", []string{"cni-plugin/..."}},
	{"cmd/settings", nil},
	{"cmd/koratctl/...", []string{
		"api", "api/store/...", "cni-plugin/socket", "felix", "ipam/block", "ipam/audit", "policy/...",
		"cmd/koratctl/...", "cmd/settings",
	}},
	{"cmd/korat-node/...", []string{
		"api", "api/store/...", "felix/...", "bgp/...", "ipam/...", "cni-plugin/socket", "cmd/korat-node/...", "cmd/settings",
	}},

	{"hack/...", nil},
	{"test/...", []string{"..."}},
}

// Bans keep foreign packages at the edges.
var Bans = []Ban{
	{
		In: pure, Of: []string{netlinkModule, netnsModule, iptablesModule, clientGo, etcdModules, gobgpModule, "os/exec"}, Deep: true,
		Why: "a pure package computes values; kernel, datastore, BGP and commands are the edges' business",
	},
	{
		In: []string{"..."}, But: []string{"felix/kernel/...", "cni-plugin/podnet/...", "test/..."},
		Of:  []string{netlinkModule, netnsModule, iptablesModule},
		Why: "only felix/kernel and cni-plugin/podnet touch the kernel",
	},
	{
		In: []string{"..."}, But: []string{"bgp/speaker/...", "test/..."}, Of: []string{gobgpModule},
		Why: "only bgp/speaker knows GoBGP, so that another version of it changes one package",
	},
	{
		In: []string{"..."}, But: []string{"api/store/...", "test/..."}, Of: []string{etcdModules},
		Why: "only api/store knows etcd",
	},
	{
		In: []string{"..."}, But: []string{"api/store/kubernetes/...", "test/..."}, Of: []string{kubernetesModule},
		Except: []string{apimachinery},
		Why:    "nothing but apimachinery of Kubernetes outside of api/store/kubernetes",
	},
	{
		In: []string{"cmd/korat", "cni-plugin/..."}, Deep: true,
		Of:  []string{kubernetesModule, etcdModules, grpcModule, gobgpModule},
		Why: "the CNI plugin is started for every pod: it is small, and holds no credentials",
	},
	{
		In: []string{"cmd/koratctl/..."}, Of: []string{gobgpModule}, Deep: true,
		Why: "koratctl asks the datastore and the agent, never a speaker",
	},
}

// Nouns that say nothing: a package with such a name collects what belongs elsewhere.
var vagueNames = []string{"util", "utils", "common", "helper", "helpers", "lib", "misc", "types", "base", "pkg", "manager", "handler"}

// Sizes are the project's limits; wanting an exception means that a package is missing.
var projectLimits = Limits{FileLines: 400, TestFileLines: 600, FunctionLines: 60, StructFields: 12, Parameters: 5}

// Exceptions from projectLimits. One that is needed no more is a violation too.
var exceptions = []Exception{}
