// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"testing"
	"time"
)

// TestOvertakenLease: what is written was worked out before a lease was seen that is there by now. The lease stays, as
// a pod may have the address since.
func TestOvertakenLease(t *testing.T) {
	const cidr = "10.0.0.0/29"
	st, a := lender(t, cidr)
	for i := range 3 {
		ask(a, auto(fmt.Sprint("h", i)))
	}
	leasing := a.Wants()
	a.Release("h0")
	a.Release("h1")
	later := a.Wants() // enough is leased without those that leasing has

	write := func(w Wants) {
		t.Helper()
		p := publisher{store: st, node: "a", last: map[string]time.Time{}}
		if _, err := p.all(t.Context(), w.Changes, noon); err != nil {
			t.Fatal(err)
		}
	}
	write(leasing)
	a.Update(picture(t, st))
	given := ask(a, auto("n0")) + " " + ask(a, auto("n1"))
	if given != "10.0.0.3 10.0.0.4" {
		t.Fatalf("assigned %s: the test needs one that was leased last", given)
	}
	write(later)

	b := needy(t, st)
	for i := range 8 {
		ask(b, auto(fmt.Sprint("b", i)))
	}
	share(t, st, b)
	for i := range 8 {
		if have := ask(b, auto(fmt.Sprint("b", i))); have == "10.0.0.3" || have == "10.0.0.4" {
			t.Errorf("%s is given to pods of both nodes", have)
		}
	}
	a.Update(picture(t, st))
	settleDown(t, st, a)
	if p := a.Problems(); len(p) > 0 {
		t.Error(p)
	}
}
