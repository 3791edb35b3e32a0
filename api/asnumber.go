// SPDX-License-Identifier: Apache-2.0

package api

import "strconv"

// ASNumber is the number of an autonomous system.
type ASNumber uint32

// UnmarshalJSON takes the number, or its decimal digits in quotes, as Calico does.
func (n *ASNumber) UnmarshalJSON(text []byte) error {
	word, kind, err := scalar(text)
	if err != nil || kind == "null" { // null leaves the field as it is
		return err
	}
	as, err := strconv.ParseUint(word, 10, 32)
	if err != nil {
		return misfitting[ASNumber](word, kind)
	}
	*n = ASNumber(as)
	return nil
}
