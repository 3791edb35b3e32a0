// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"context"
	"encoding/json"
	"errors"

	"korat/api"
	"korat/cni-plugin/socket"
	"korat/felix/packetlog"
	"korat/policy"
	"korat/policy/compile"
)

// ReportGroup is the group of the packet log that rules report to.
const ReportGroup = compile.ReportGroup

// ReportedPacket is what VerbFlows tells of.
type ReportedPacket = packetlog.Entry

// Stream implements socket.Streamer: it tells of the packets that rules report.
func (a *Agent) Stream(ctx context.Context, _ socket.Request, send func(socket.Reply) error) error {
	if a.Reports == nil {
		return errors.New("this agent has no packet log")
	}
	return a.memos.packets.Follow(ctx, func(e packetlog.Entry) error {
		text, err := json.Marshal(e)
		if err != nil {
			return err
		}
		return send(socket.Reply{Status: text})
	})
}

// lookout is what the agent knows of what reports are about.
type lookout struct{ *Agent }

// Edition implements packetlog.Cluster.
func (l lookout) Edition() uint64 { return l.memos.edition.Load() }

// Snapshot implements packetlog.Cluster.
func (l lookout) Snapshot() api.Snapshot { return l.Datastore.Snapshot() }

// Decided implements packetlog.Cluster.
func (l lookout) Decided(ctx context.Context, id string) (packetlog.Decided, bool) {
	type stands struct {
		origin compile.Origin
		rule   policy.Rule
		known  bool
	}
	found, err := inquire(ctx, l.Agent, func() (s stands) {
		s.origin, s.rule, s.known = l.memos.filter.Rule(id)
		return s
	})
	if err != nil || !found.known {
		return packetlog.Decided{}, false
	}
	return decided(found.origin, found.rule), true
}

func decided(o compile.Origin, r policy.Rule) packetlog.Decided {
	d := packetlog.Decided{Direction: o.Direction}
	switch o.What {
	case compile.ByRule:
		d.Policy, d.Rule, d.Name, d.Action = &o.Policy, &r.Index, r.Name, r.Action
	case compile.ByTier:
		d.Why = "no rule of tier " + o.Tier + " matches"
	case compile.ByProfiles:
		d.Why = "no profile allows it"
	case compile.ByInterface:
		d.Why = "no pod is known at the interface"
	case compile.BySource:
		d.Why = "a spoofed source: it is not an address of the pod's"
	case compile.ByVXLAN:
		d.Why = "it is VXLAN, which pods may not send"
	case compile.ByIPIP:
		d.Why = "it is IPv4 in IP, which pods may not send"
	case compile.ByService:
		d.Why = "FelixConfiguration's serviceCIDRs have the address, and no service is known there"
	case compile.ByHost:
		d.Why = "FelixConfiguration's defaultEndpointToHostAction is Drop"
	case compile.ByRevocation:
		d.Why = "the flow was cut by a policy change"
	}
	return d
}
