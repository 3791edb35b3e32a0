// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"korat/api"
	"korat/felix/reconcile"
)

// report is what the loop tells the outside: readiness with reasons, status and metrics. The loop
// writes it at the end of each pass; HTTP and the socket read it at any time.
type report struct {
	registry *prometheus.Registry
	metrics  metrics
	hostErr  error
	// poolErr is why the default pool of a family was not created.
	poolErr perFamily[error]
	logged  logged

	mu      sync.Mutex
	work    work
	status  func() NodeStatus
	reasons []string
	beat    time.Time
	// born is when the agent started.
	born time.Time
}

// logged is what the log has been told last: why some learned routes are not in the kernel, why some chains or sets are not, and
// what is wrong with objects.
type logged struct{ learned, filter, objects string }

// speakerStart is how long a speaker may take to come up without that being worth details.
const speakerStart = 5 * time.Second

type metrics struct {
	passes    prometheus.Counter
	passTime  prometheus.Histogram
	errors    *prometheus.CounterVec
	writes    *prometheus.CounterVec
	reads     *prometheus.CounterVec
	endpoints prometheus.Gauge
	routes    prometheus.Gauge
	sessions  *prometheus.GaugeVec
	policy    policyMetrics
}

func newReport(node, version string) *report {
	m := metrics{
		passes:    prometheus.NewCounter(prometheus.CounterOpts{Name: "korat_passes_total", Help: "Passes of the agent's loop."}),
		passTime:  prometheus.NewHistogram(prometheus.HistogramOpts{Name: "korat_pass_seconds", Help: "Duration of a pass.", Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9)}),
		errors:    counters("korat_step_errors_total", "Failed applications of a kernel table.", "step"),
		writes:    counters("korat_step_changes_total", "Entries set or deleted in a kernel table.", "step", "change"),
		reads:     counters("korat_step_reads_total", "Full reads of a kernel table.", "step"),
		endpoints: prometheus.NewGauge(prometheus.GaugeOpts{Name: "korat_endpoints", Help: "Attached pod interfaces."}),
		routes:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "korat_learned_routes", Help: "Routes learned over BGP that are wanted in the kernel."}),
		sessions: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "korat_bgp_sessions", Help: "Planned BGP sessions by whether they are established.",
		}, []string{"established"}),
		policy: newPolicyMetrics(),
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "korat_info", Help: "Always 1.",
		ConstLabels: prometheus.Labels{"node": node, "version": version},
	})
	info.Set(1)
	reg := prometheus.NewRegistry()
	reg.MustRegister(m.passes, m.passTime, m.errors, m.writes, m.reads, m.endpoints, m.routes, m.sessions, info,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	reg.MustRegister(m.policy.collectors()...)
	r := &report{registry: reg, metrics: m, beat: time.Now(), born: time.Now(), reasons: []string{"starting"}}
	r.countReady()
	return r
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

// work is the kernel's table that is being written, and since when; none if step is empty.
type work struct {
	step  string
	since time.Time
	// awaited says what is waited for, or nothing; it is nil if that can't be known.
	awaited func() string
}

// begin notes which step is taken from now on; none if it is empty.
func (r *report) begin(step string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.work.step, r.work.since = step, time.Now()
}

// busy says what the loop has been doing if that has taken longer than so; else nothing.
func (r *report) busy(longer time.Duration) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := time.Since(r.work.since)
	if r.work.step == "" || taken <= longer {
		return ""
	}
	text := fmt.Sprintf("writing %s has taken %s so far", r.work.step, taken.Round(time.Second))
	if r.work.awaited != nil {
		if what := r.work.awaited(); what != "" {
			text += ": " + what
		}
	}
	return text
}

// notReady says why the node is not ready at this moment: what the last pass found, and what has held up the loop since.
func (r *report) notReady() []string {
	reasons := r.told()
	if what := r.busy(slow); what != "" {
		reasons = append([]string{"kernel: " + what}, reasons...)
	}
	return reasons
}

// countReady exports whether the node is ready.
func (r *report) countReady() {
	r.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "korat_ready", Help: "1 when the node is ready."}, func() float64 {
		if len(r.notReady()) > 0 {
			return 0
		}
		return 1
	}))
}

// applied counts what one step did.
func (r *report) applied(step string, result reconcile.Result, err error) {
	if result.Read {
		r.metrics.reads.WithLabelValues(step).Inc()
	}
	r.metrics.writes.WithLabelValues(step, "set").Add(float64(result.Set))
	r.metrics.writes.WithLabelValues(step, "delete").Add(float64(result.Deleted))
	if err != nil {
		r.metrics.errors.WithLabelValues(step).Inc()
	}
}

// publish ends a pass.
func (a *Agent) publish(began time.Time, err error) {
	r, w := a.report, &a.world
	trouble := divide(err, w.want.Routes)
	reasons := a.reasons(trouble.serious)
	established := 0
	for addr := range w.plan.Peers {
		if w.rib.Sessions[addr].Established() {
			established++
		}
	}
	m := r.metrics
	m.passes.Inc()
	m.passTime.Observe(time.Since(began).Seconds())
	m.endpoints.Set(float64(len(a.at.endpoints)))
	m.routes.Set(float64(len(w.learned)))
	m.sessions.WithLabelValues("true").Set(float64(established))
	m.sessions.WithLabelValues("false").Set(float64(len(w.plan.Peers) - established))
	problems := slices.Concat(reasons, w.problems, a.Keeper.Status().Problems)
	for _, problem := range a.at.alloc.Problems() {
		problems = append(problems, problem.Error())
	}
	if err := a.Mirror.Err(); err != nil && a.registered() {
		problems = append(problems, "this node's objects in the datastore: "+err.Error())
	}
	if err := a.Journal.Err(); err != nil {
		problems = append(problems, "record of attached pods: "+err.Error())
	}
	if trouble.learned != nil {
		problems = append(problems, "learned routes: "+trouble.learned.Error())
	}
	if trouble.filter != nil {
		problems = append(problems, "policy: "+trouble.filter.Error())
	}
	a.memos.revoked = a.Revoker.Status()
	if err := a.memos.revoked.Err; err != nil {
		problems = append(problems, "flows that policies forbid may go on: "+err.Error())
	}
	a.logOnce("policy", &r.logged.filter, textOf(trouble.filter))
	objects := a.memos.filter.Problems()
	a.logOnce("objects that are not understood", &r.logged.objects, strings.Join(objects, "; "))
	problems = slices.Concat(problems, objects, a.lost(), bypasses(w.host))
	a.logOnce("learned routes", &r.logged.learned, textOf(trouble.learned))
	policies := a.policyStatus(trouble.filter)
	m.policy.set(policies, a.memos.filter.Faults())
	status := a.statusOf(problems, policies)
	a.logReadiness(reasons)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status, r.reasons, r.beat = status, reasons, time.Now()
}

// logOnce says once what is wrong, and remembers it in told.
func (a *Agent) logOnce(what string, told *string, now string) {
	if now != "" && now != *told {
		a.Log.Warn("left undone", "what", what, "error", now)
	}
	*told = now
}

// textOf gives nothing for no error.
func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// logReadiness says once when the node becomes ready or stops being so.
func (a *Agent) logReadiness(reasons []string) {
	was := a.report.told()
	switch {
	case len(reasons) == 0 && len(was) > 0:
		a.Log.Info("ready")
	case len(reasons) > 0 && strings.Join(was, "; ") != strings.Join(reasons, "; "):
		a.Log.Info("not ready", "reasons", strings.Join(reasons, "; "))
	}
}

// reasons are why the node can't attach pods or forward for them now. A BGP session that is down is
// none: one dead neighbour must not make every node unready.
func (a *Agent) reasons(err error) []string {
	reasons := []string{}
	add := func(what string, err error) {
		if err != nil {
			reasons = append(reasons, what+": "+err.Error())
		}
	}
	w := &a.world
	if what := a.waiting(); what != "" {
		return []string{what}
	}
	add("node address", w.selfErr)
	for _, f := range api.Families() {
		if err := *a.report.poolErr.of(f); err != nil && !hasPool(w.snap.IPPools, f) {
			add("default pool", err)
		}
	}
	for _, f := range a.poolsToCome() {
		add("default pool", fmt.Errorf("the datastore has no IPPool/%s yet, which this agent is creating", poolName(f)))
	}
	if !a.registered() {
		add("register node", a.Mirror.Err())
	}
	add("observe host", a.report.hostErr)
	add("kernel", err)
	switch {
	case w.rib.Running:
		add("speaker", a.Speaker.Err())
	case time.Since(a.report.born) < speakerStart:
		add("speaker", errors.New("is starting"))
	default:
		add("speaker", cmp.Or(a.Speaker.Err(), errors.New("does not answer")))
	}
	return reasons
}

// registered says whether the datastore has this node: without, no other one peers with it.
func (a *Agent) registered() bool {
	_, ok := a.world.snap.Nodes.Get(a.Node)
	return ok
}

func (r *report) told() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reasons
}

func (r *report) statusJSON() json.RawMessage {
	r.mu.Lock()
	status := r.status
	r.mu.Unlock()
	if status == nil {
		status = func() NodeStatus { return NodeStatus{Problems: []string{"starting"}} }
	}
	now := status()
	if what := r.busy(slow); what != "" {
		now.Problems = append([]string{"kernel: " + what}, now.Problems...)
	}
	text, err := json.Marshal(now)
	if err != nil {
		return json.RawMessage(`{}`)
	}
	return text
}

// maxSilence is how long the loop may go without a pass before /livez fails. The resync wakes it
// more often than that.
const maxSilence = 5 * time.Minute

// slow is how long a step may take before the node is not ready for it.
const slow = 5 * time.Second

// MaxResync is the longest allowed period of the resync.
const MaxResync = maxSilence / 2

// Handler serves /livez, /readyz and /metrics.
func (a *Agent) Handler() http.Handler {
	r := a.report
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		r.mu.Lock()
		silent := time.Since(r.beat)
		r.mu.Unlock()
		if silent > maxSilence {
			http.Error(w, fmt.Sprintf("the loop has made no pass for %s", silent.Round(time.Second)), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		reasons := r.notReady()
		if len(reasons) > 0 {
			http.Error(w, strings.Join(reasons, "\n"), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(r.registry, promhttp.HandlerOpts{}))
	return mux
}
