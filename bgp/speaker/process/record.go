// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"runtime/pprof"
	"strings"
	"sync"
	"time"

	packet "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"korat/api/wake"
	"korat/bgp/speaker/status"
)

// weSent begins the reason of a session that this end closed.
const weSent = "we sent "

// stateChanged is GoBGP's message for each step of a session's state machine.
const stateChanged = "state changed"

// recorder gathers, from GoBGP's log records, what its API does not tell: why a session is down.
type recorder struct {
	path string
	pid  int

	mu    sync.Mutex
	peers map[netip.Addr]status.Peer
	// changed during a write leads to one more write.
	changed wake.Signal
}

func newRecorder(path string, pid int) *recorder {
	return &recorder{path: path, pid: pid, peers: map[netip.Addr]status.Peer{}, changed: wake.New()}
}

// run writes the file after each change until ctx is done.
func (r *recorder) run(ctx context.Context, failed func(error)) {
	for {
		if err := r.write(); err != nil {
			failed(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-r.changed:
		}
	}
}

func (r *recorder) write() error {
	r.mu.Lock()
	f := status.File{PID: r.pid, Peers: maps.Clone(r.peers)}
	r.mu.Unlock()
	return status.Write(r.path, f)
}

// record looks at one log record. It is called with GoBGP's locks held and so must not wait.
func (r *recorder) record(msg string, fields map[string]any) {
	peer, ok := peerOf(fields)
	if !ok {
		return
	}
	if msg == stateChanged {
		label(peer)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	have, known := r.peers[peer]
	next, keep := advance(have, msg, fields)
	switch {
	case !keep && !known, keep && known && next == have, keep && !known && next == status.Peer{}:
		return
	case keep:
		r.peers[peer] = next
	default:
		delete(r.peers, peer)
	}
	r.changed.Poke()
}

// label names the neighbour on this goroutine, GoBGP's server, which next starts the goroutines of
// the session's new state; these inherit the label, and the one that reads the neighbour's messages
// carries it into the stack of a crash.
func label(peer netip.Addr) {
	pprof.SetGoroutineLabels(pprof.WithLabels(context.Background(), pprof.Labels(status.PeerLabel, peer.String())))
}

func peerOf(fields map[string]any) (netip.Addr, bool) {
	key, _ := fields["Key"].(string)
	addr, err := netip.ParseAddr(key)
	return addr.Unmap(), err == nil
}

// advance gives what is known of a peer after a log record; keep is false once it is unconfigured.
// The messages are GoBGP's; TestReasons fails when an update of the library changes them.
func advance(p status.Peer, msg string, fields map[string]any) (next status.Peer, keep bool) {
	switch msg {
	case "Peer Up":
		p.Up, p.Reason = time.Now(), ""
	case "Peer Down":
		p.Down = time.Now()
		p.Flaps++
		p.Reason = downReason(p.Reason, fields["Reason"])
	case "failed to connect":
		p.Reason = "connect: " + connectError(fields["Error"])
	case "received notification":
		p.Reason = "neighbour sent " + notification(fields)
		if text, _ := fields["Communicated-Reason"].(string); text != "" {
			p.Reason += fmt.Sprintf(" (%q)", text)
		}
	case "sent notification":
		p.Reason = weSent + notification(fields)
	case "hold timer expired":
		p.Reason = "hold timer expired: the neighbour was silent"
	case stateChanged:
		p.Reason = refusedReason(p.Reason, fields)
	case "Mismatched local address":
		p.Reason = fmt.Sprintf("neighbour connected to %v, not to %v", fields["Addr"], fields["Configured addr"])
	case "graceful restart timer expired":
		p.Reason = "neighbour did not come back within its restart time"
	case "Session will be reset due to malformed BGP Header", "Session will be reset due to malformed BGP message":
		p.Reason = fmt.Sprintf("neighbour sent a malformed message: %v", fields["Error"])
	case "Session will be reset due to malformed BGP update message":
		p.Reason = fmt.Sprintf("neighbour sent a malformed update: %v", fields["error"])
	case "Delete a peer configuration":
		return status.Peer{}, false
	}
	return p, true
}

// downReason prefers what was recorded just before the session went down, which is more precise
// than GoBGP's own reason: with graceful restart it hides every cause behind that word.
func downReason(recorded string, reason any) string {
	if recorded != "" {
		return recorded
	}
	switch s := fmt.Sprint(reason); s {
	case "graceful-restart", "read-failed", "write-failed":
		return "connection lost"
	default:
		return s
	}
}

// refusedReason gives the reason of a session that ended while it was being opened: GoBGP neither
// logs the notification that it got then, nor calls it a loss.
func refusedReason(recorded string, fields map[string]any) string {
	opening := fields["old"] == packet.BGP_FSM_OPENSENT.String() || fields["old"] == packet.BGP_FSM_OPENCONFIRM.String()
	if !opening || fields["new"] != packet.BGP_FSM_IDLE.String() || strings.HasPrefix(recorded, weSent) {
		return recorded
	}
	return "the neighbour ended the session while it was being opened: is this node configured there, with the right AS?"
}

func connectError(v any) string {
	err, ok := v.(error)
	if !ok {
		return fmt.Sprint(v)
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Timeout() {
		return "timeout"
	}
	// The outer layers repeat the addresses.
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return err.Error()
}

// notification describes the message of a log record, which has its code either in fields of their
// own or inside an error.
func notification(fields map[string]any) string {
	if e, ok := fields["Data"].(*packet.MessageError); ok {
		text := packet.NewNotificationErrorCode(e.TypeCode, e.SubTypeCode).String()
		if e.Message != "" {
			text += ": " + e.Message
		}
		return text
	}
	code, _ := fields["Code"].(uint8)
	subcode, _ := fields["Subcode"].(uint8)
	return packet.NewNotificationErrorCode(code, subcode).String()
}
