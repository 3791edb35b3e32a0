// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"reflect"
	"strconv"
)

// ASNumber is the number of an autonomous system.
type ASNumber uint32

// UnmarshalJSON takes the number, or its decimal digits in quotes, as Calico does.
func (n *ASNumber) UnmarshalJSON(text []byte) error {
	value, digits := "number "+string(text), string(text)
	switch text[0] {
	case 'n': // null leaves the field as it is
		return nil
	case '"':
		value = "string"
		if err := json.Unmarshal(text, &digits); err != nil {
			return err
		}
	case '{':
		value = "object"
	case '[':
		value = "array"
	case 't', 'f':
		value = "bool"
	}
	as, err := strconv.ParseUint(digits, 10, 32)
	if err != nil {
		return &json.UnmarshalTypeError{Value: value, Type: reflect.TypeFor[ASNumber]()}
	}
	*n = ASNumber(as)
	return nil
}
