// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
)

// reportVersion is the version of the form that this package writes, and the only one that it reads.
const reportVersion = 1

// Report is what a check found: two reads of the datastore, a pause apart.
type Report struct {
	Version int `json:"version"`
	// ClusterGUID is the cluster's, from its ClusterInformation.
	ClusterGUID string `json:"clusterGUID"`
	// Time is when the second read began.
	Time   time.Time `json:"time"`
	Counts Counts    `json:"counts"`
	// Findings are those of both reads.
	Findings []Finding `json:"findings"`
	// Allocations are all addresses that are not free, if they were asked for.
	Allocations []Allocation `json:"allocations,omitempty"`
}

// Counts says how much was looked at.
type Counts struct {
	Pools      int `json:"pools"`
	Blocks     int `json:"blocks"`
	Affinities int `json:"affinities"`
	Nodes      int `json:"nodes"`
	Endpoints  int `json:"endpoints"`
	InUse      int `json:"inUse"`
	Borrowed   int `json:"borrowed"`
	Cooling    int `json:"cooling"`
	Leased     int `json:"leased"`
}

// Report gives the findings that an earlier read had as well.
func (b *Book) Report(earlier []Finding, guid string, now time.Time) Report {
	r := Report{Version: reportVersion, ClusterGUID: guid, Time: now.UTC(), Counts: b.counts(), Findings: Confirmed(earlier, b.Findings(now))}
	if r.Findings == nil {
		r.Findings = []Finding{}
	}
	return r
}

func (b *Book) counts() Counts {
	c := Counts{
		Pools: b.snap.IPPools.Len(), Blocks: b.snap.IPAMBlocks.Len(), Affinities: b.snap.BlockAffinities.Len(),
		Nodes: b.snap.Nodes.Len(), Endpoints: b.snap.WorkloadEndpoints.Len(),
	}
	for _, x := range b.blocks {
		c.InUse += x.count(InUse)
		c.Cooling += x.count(Cooling)
		c.Leased += x.count(Leased)
		for _, a := range x.allocations {
			if a.Borrowed() {
				c.Borrowed++
			}
		}
	}
	return c
}

// ParseReport reads what a Report was written as. It may come from anybody: a finding in it counts only where
// the datastore still has it.
func ParseReport(data []byte) (Report, error) {
	var r Report
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	err := dec.Decode(&r)
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("there is more after it")
		}
	}
	switch {
	case err != nil:
		return r, fmt.Errorf("not a report of koratctl ipam check -o: %w", err)
	case r.Version != reportVersion:
		return r, fmt.Errorf("version: %d: want %d: write it anew with this koratctl", r.Version, reportVersion)
	case r.Time.IsZero():
		return r, errors.New("time: is missing: write it anew with koratctl ipam check -o")
	case r.ClusterGUID == "":
		return r, errors.New("clusterGUID: is missing: write it anew with koratctl ipam check -o")
	}
	for i, f := range r.Findings {
		if err := f.check(); err != nil {
			return r, fmt.Errorf("findings[%d].%w", i, err)
		}
	}
	return r, nil
}

// check refuses what would not be printed as itself: a terminal obeys some characters.
func (f Finding) check() error {
	switch {
	case strings.ContainsFunc(f.Object, func(r rune) bool { return r == unicode.ReplacementChar || !unicode.IsPrint(r) }):
		return fmt.Errorf("object: %q: holds what cannot be printed", f.Object)
	case f.Address.Zone() != "":
		return fmt.Errorf("address: %q: an address of a pool has no zone", f.Address)
	}
	return nil
}
