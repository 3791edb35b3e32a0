// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"korat/ipam/audit"
)

const emptyReport = `{"version": 1, "clusterGUID": "g", "time": "2026-08-01T10:00:00Z", "counts": {}, "findings": []}`

func TestParseReportRefuses(t *testing.T) {
	finding := func(text string) string { return strings.Replace(emptyReport, "[]", "["+text+"]", 1) }
	for text, want := range map[string]string{
		"":                        "not a report of koratctl ipam check -o: EOF",
		"[]":                      "not a report of koratctl ipam check -o: json: cannot unmarshal array",
		emptyReport[:40]:          "not a report of koratctl ipam check -o: unexpected EOF",
		emptyReport + "x":         "there is more after it",
		emptyReport + emptyReport: "there is more after it",
		`{"version": 2}`:          "version: 2: want 1",
		`{"version": 1}`:          "time: is missing",
		strings.Replace(emptyReport, `"g"`, `""`, 1):             "clusterGUID: is missing",
		strings.Replace(emptyReport, `"counts"`, `"count"`, 1):   `unknown field "count"`,
		finding(`{"address": "10.0.0.300"}`):                     "not a report of koratctl ipam check -o: ParseAddr",
		finding(`{"sequence": -1}`):                              "not a report of koratctl ipam check -o: json: cannot unmarshal number -1",
		finding(`{"object": "Node/a"}, {"object": "\u001b[2J"}`): `findings[1].object: "\x1b[2J": holds what cannot be printed`,
		finding(`{"address": "fe80::1%\u001b[2J"}`):              `findings[0].address: "fe80::1%\x1b[2J": an address of a pool has no zone`,
		strings.Repeat(`{"findings":[`, 20000):                   "not a report of koratctl ipam check -o: ",
	} {
		_, err := audit.ParseReport([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: have %v, want %s", text, err, want)
		}
	}
}

// A report that was made up releases nothing that the datastore does not itself show to be left over.
func TestReportIsNotBelieved(t *testing.T) {
	book := audit.Read(picture(t, healthy))
	var found []audit.Finding
	for _, a := range book.Allocations() {
		for _, kind := range audit.Kinds() {
			found = append(found, audit.Finding{Kind: kind, Object: "Node/a", Address: a.Address, Handle: a.Handle, Sequence: a.Sequence})
		}
	}
	if len(found) == 0 {
		t.Fatal("no allocations to make findings of")
	}
	if plan := book.Release(found, true, noon); !plan.Empty() {
		t.Errorf("would release:\n%s", planText(plan))
	}
}

// FuzzParseReport: what is taken for a report can be printed, reads the same when it is written again, and
// releases nothing of a cluster that is in order.
func FuzzParseReport(f *testing.F) {
	f.Add([]byte(emptyReport))
	for _, lines := range []string{healthy, goneNode} {
		b := audit.Read(picture(f, lines))
		text, err := json.Marshal(b.Report(b.Findings(noon), "g", noon))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(strings.Replace(emptyReport, "[]", `[{"kind": "allocation without endpoint", "object": "IPAMBlock/10-0-0-0-30", "address": "10.0.0.0", "handle": "a0", "sequence": 1}]`, 1)))
	book := audit.Read(picture(f, healthy))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := audit.ParseReport(data)
		if err != nil {
			return
		}
		for _, finding := range r.Findings {
			if strings.ContainsFunc(finding.Object+finding.Address.String(), unicode.IsControl) {
				t.Errorf("%q and %q would be printed", finding.Object, finding.Address)
			}
		}
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		again, err := audit.ParseReport(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if diff := cmp.Diff(r, again, cmpopts.EquateEmpty(), cmpopts.EquateComparable(audit.Finding{}), cmp.Comparer(time.Time.Equal)); diff != "" {
			t.Error(diff)
		}
		if plan := book.Release(r.Findings, true, noon); !plan.Empty() {
			t.Errorf("would release:\n%s", planText(plan))
		}
	})
}
