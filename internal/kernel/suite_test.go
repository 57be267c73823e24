package kernel_test

import (
	"testing"

	"smelt/internal/kernel"
	"smelt/internal/kernel/kerneltest"
)

// TestVariants runs the suite on everything that this CPU runs.
func TestVariants(t *testing.T) {
	for _, name := range kernel.Variants() {
		t.Run(name, func(t *testing.T) {
			defer kernel.Use(name)()
			kerneltest.Run(t)
		})
	}
}
