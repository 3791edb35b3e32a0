// SPDX-License-Identifier: Apache-2.0

package index

import "korat/policy"

// Item is something with labels: an endpoint or a network set.
type Item = policy.Item

// Port is a named port of an item.
type Port = policy.NamedPort
