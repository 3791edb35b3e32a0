// SPDX-License-Identifier: Apache-2.0

package felix

import "time"

// thawed is when there is more to write of addresses that have cooled down; nil if there is nothing to wait for.
func (a *Agent) thawed() <-chan time.Time {
	due, ok := a.at.alloc.Due()
	if !ok {
		return nil
	}
	return time.After(max(time.Second, time.Until(due))) // what can't be written now is not tried all the time
}
