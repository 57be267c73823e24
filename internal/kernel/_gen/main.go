// Command _gen writes the assembly of package kernel.
package main

import (
	"fmt"
	"os"
	"strings"
)

func lower(s string) string { return strings.ToLower(s) }

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "kernel/_gen:", err)
		os.Exit(1)
	}
}

func run() error {
	for _, step := range []func() error{
		func() error { return genFloor("../floor") },
		func() error { return genGemm("..", avx512, f32, 14) },
		func() error { return genGemm("..", avx512, f64, 14) },
		func() error { return genGemm("..", avx512, pairs, 14) },
		func() error { return genPack512("..") },
		func() error { return genDots("..", avx512) },
		func() error { return genDots("..", avx2) },
		func() error { return genGemm("..", avx2, f32, 6) },
		func() error { return genNEON("..") },
		func() error { return genVectors("..", avx512) },
		func() error { return genVectors("..", avx2) },
		func() error { return genGemm("..", avx2, f64, 6) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
