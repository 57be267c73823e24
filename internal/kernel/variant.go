package kernel

import (
	"fmt"
	"os"
	"strings"
)

// variant is one set of kernels. The generic one is complete; the others
// replace what their instruction set makes faster.
type variant struct {
	name string
	f32  *engine[float32]
	f64  *engine[float64]
	bf16 *engine[float32] // on pairs of bfloat16; nil where there is none
	streams
	vectors
}

// Env is the environment variable that names the variant to use in place of
// the best one: generic, avx2, avx512, avx512bf16 or neon.
const Env = "SMELT_KERNEL"

// variants holds what this CPU runs, the best first and generic last.
var variants = append(machine(), &generic)

var active, choiceErr = choose(os.Getenv(Env), variants)

// Variant returns the name of the kernels in use.
func Variant() string { return active.name }

// Variants returns the names of the kernels that this CPU runs, the best
// first.
func Variants() []string {
	names := make([]string, len(variants))
	for i, v := range variants {
		names[i] = v.name
	}
	return names
}

// ChoiceError returns an error where SMELT_KERNEL asks for kernels that this
// CPU or build does not run. The best ones are in use then; a program may warn
// or stop.
func ChoiceError() error { return choiceErr }

func choose(name string, from []*variant) (*variant, error) {
	if name == "" {
		return from[0], nil
	}
	names := make([]string, len(from))
	for i, v := range from {
		if v.name == name {
			return v, nil
		}
		names[i] = v.name
	}
	return from[0], fmt.Errorf("kernel: %s=%q: this CPU and build run %s; using %s", Env, name, strings.Join(names, ", "), from[0].name)
}
