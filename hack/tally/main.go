// SPDX-License-Identifier: Apache-2.0

// Command tally reads the stream of go test -json on stdin, prints a line for each package, the output
// of what failed and the reason of what was skipped, and closes with "N passed, N failed, N
// skipped". It exits with 1 when anything failed or nothing passed.
package main

import (
	"fmt"
	"os"
)

func main() {
	c, err := read(os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "tally:", err)
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", c.passed, c.failed, c.skipped)
	if err != nil || c.failed > 0 || c.passed == 0 {
		os.Exit(1)
	}
}
