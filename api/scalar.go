// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"reflect"
	"strconv"
)

// scalar gives a JSON value's text without quotes, and its type as json.UnmarshalTypeError names it. What is no
// scalar has no text.
func scalar(text []byte) (word, kind string, err error) {
	switch text[0] {
	case 'n':
		return "", "null", nil
	case '"':
		err = json.Unmarshal(text, &word)
		return word, "string", err
	case '{':
		return "", "object", nil
	case '[':
		return "", "array", nil
	case 't', 'f':
		return "", "bool", nil
	}
	return string(text), "number", nil
}

// misfitting is the error for a scalar that is no T.
func misfitting[T any](word, kind string) error {
	switch kind {
	case "string":
		kind += " " + strconv.Quote(word)
	case "number":
		kind += " " + word
	}
	return &json.UnmarshalTypeError{Value: kind, Type: reflect.TypeFor[T]()}
}
