// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"korat/test/lab"
)

// metric reads one of an agent's metrics, named with its labels.
func metric(ctx context.Context, h *lab.Host, name string) (float64, error) {
	status, body, err := h.Get(ctx, "http://127.0.0.1:9099/metrics")
	if err != nil {
		return 0, err
	}
	if status != http.StatusOK {
		return 0, fmt.Errorf("read metrics of %s: %d: %s", h.Name, status, body)
	}
	for line := range strings.Lines(body) {
		if text, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(text), 64)
		}
	}
	return 0, fmt.Errorf("read metrics of %s: no %s", h.Name, name)
}
