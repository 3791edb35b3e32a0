// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"fmt"
	"slices"
	"strings"

	"korat/cni-plugin/socket"
	"korat/felix/endpoint"
)

// canAdd says whether this node is fit to run pods. (STATUS) A runtime reports its node as not ready while
// STATUS fails, and Kubernetes then moves the node's pods away: so a node that has a block is fit even
// when that is full for the moment, and one without any is not, until it gets one.
func (a *Agent) canAdd() socket.Reply {
	if reasons := a.report.notReady(); len(reasons) > 0 {
		return tryAgain("agent not ready", strings.Join(reasons, "; "))
	}
	if len(a.at.alloc.Blocks()) > 0 {
		return socket.Reply{}
	}
	if err := a.at.alloc.Available(); err != nil {
		return tryAgain("no address block", err.Error())
	}
	return socket.Reply{}
}

// finished gives the attachment of a READY or a CHECK, whose plugin is to hear whether the kernel holds it.
func (a *Agent) finished(r socket.Request) (endpoint.Endpoint, error) {
	if r.Verb == socket.VerbCheck {
		return a.at.check(r.ID)
	}
	ep, err := a.at.ready(r)
	if _, exists := a.world.host.Links[ep.Interface]; err == nil && !exists {
		err = fmt.Errorf("host interface %s of %s does not exist", ep.Interface, ep.ID)
	}
	return ep, err
}

// check gives an attachment that is finished. (CHECK)
func (at *attachments) check(id endpoint.ID) (endpoint.Endpoint, error) {
	ep, known := at.find(id)
	switch {
	case !known:
		return ep, &socket.Error{Code: socket.CodeUnknownContainer, Message: "attachment unknown", Details: id.String()}
	case !ep.Ready:
		return ep, &socket.Error{
			Code: socket.CodeTryAgainLater, Message: "attachment unfinished",
			Details: id.String() + " has addresses, but no interface yet",
		}
	case ep.Traits.Lost:
		return ep, &socket.Error{Code: socket.CodeInternal, Message: "labels lost", Details: at.unknown(ep)}
	}
	return ep, nil
}

// stale gives the network's attachments that are not among the valid ones. (GC) What is unfinished has a
// plugin at work; what was recovered from the kernel without its network's name may be another's. Both stay.
func (at *attachments) stale(network string, valid []endpoint.ID) []endpoint.Endpoint {
	var all []endpoint.Endpoint
	for _, ep := range at.endpoints {
		if ep.Ready && network != "" && ep.Network == network && !slices.ContainsFunc(valid, ep.Alias().Is) {
			all = append(all, ep)
		}
	}
	return all
}
