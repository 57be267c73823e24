package kernel_test

import (
	"os"
	"slices"
	"strings"
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

// TestFlagships fails where a variant of this architecture could not be tested,
// because the CPU lacks its instructions, unless SMELT_KERNEL_TEST_ALLOW names
// it (comma separated): code that has not run is not to pass in silence.
func TestFlagships(t *testing.T) {
	allowed := strings.Split(os.Getenv("SMELT_KERNEL_TEST_ALLOW"), ",")
	for _, name := range kernel.Expected {
		if !slices.Contains(kernel.Variants(), name) && !slices.Contains(allowed, name) {
			t.Errorf("variant %s has not been tested: this CPU runs %v; set SMELT_KERNEL_TEST_ALLOW=%s to let that pass",
				name, kernel.Variants(), name)
		}
	}
	t.Logf("tested: %v", kernel.Variants())
}
