// SPDX-License-Identifier: Apache-2.0

package architecture

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
)

// Load reads the import graph of the module that dir is in, by go list. With an overlay (see go help
// build) the files it names are taken to be there too; "" means none. What does not load is left
// out, as the compiler reports it better.
func Load(ctx context.Context, dir, overlay string) ([]Package, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-e", "-json=ImportPath,Imports,Deps", "-overlay="+overlay, "./...")
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list in %s: %w\n%s", dir, err, stderr.Bytes())
	}
	var packages []Package
	for dec := json.NewDecoder(bytes.NewReader(stdout)); ; {
		var p struct {
			ImportPath    string
			Imports, Deps []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, fmt.Errorf("read go list's answer: %w", err)
		}
		packages = append(packages, Package{Path: p.ImportPath, Imports: p.Imports, Deps: p.Deps})
	}
}
