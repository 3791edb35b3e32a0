// SPDX-License-Identifier: Apache-2.0

package show

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"korat/api"
	"korat/policy/explain"
)

// Orders prints what applies to endpoints, in order.
func Orders(w io.Writer, f Format, orders []explain.Order) error {
	if f != Table {
		return Value(w, f, orders)
	}
	for i := range orders {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if err := oneOrder(w, &orders[i]); err != nil {
			return err
		}
	}
	return nil
}

func oneOrder(w io.Writer, o *explain.Order) error {
	var labels []string
	for _, key := range slices.Sorted(maps.Keys(o.Labels)) {
		labels = append(labels, key+"="+o.Labels[key])
	}
	head := [][]string{
		{"Endpoint", o.Endpoint},
		{"Node", o.Node},
		{"Labels", strings.Join(labels, ", ")},
		{"Profiles", strings.Join(o.Profiles, ", ")},
	}
	if len(o.Chains) > 0 {
		head = append(head, []string{"Chains", strings.Join(o.Chains, ", ")})
	}
	if err := grid(w, head); err != nil {
		return err
	}
	fmt.Fprintln(w)
	rows := [][]string{{"DIRECTION", "TIER", "DEFAULT", "ORDER", "POLICY", "RULES", "STAGE", "SELECTOR"}}
	rows = append(rows, orderRows(api.Ingress, o.Ingress)...)
	rows = append(rows, orderRows(api.Egress, o.Egress)...)
	return gridOr(w, rows, "No policy applies: its profiles decide.")
}

func orderRows(d api.PolicyType, tiers []explain.OrderedTier) [][]string {
	var rows [][]string
	for _, t := range tiers {
		for _, p := range t.Policies {
			at := ""
			if p.Order != nil {
				at = strconv.FormatFloat(*p.Order, 'f', -1, 64)
			}
			stage := string(t.Stage)
			if p.Staged {
				stage = "staged"
			}
			rows = append(rows, []string{string(d), t.Tier, string(t.Default), at, p.Policy.String(), strconv.Itoa(p.Rules), stage, p.Selector})
		}
	}
	return rows
}
