package merge

import (
	"fmt"
	"math"
	"strings"
)

// methods is the table of all methods, in the order in which they are listed.
// One more method is one more file and one more line.
var methods = []*Method{
	&simpleAverage,
	&weightedAverage,
	&taskArithmetic,
	&tiesMerging,
	&dareLinear,
	&dareTIES,
	&slerp,
}

// Methods lists all methods.
func Methods() []*Method { return methods }

// Find returns the method of a name.
func Find(name string) (*Method, error) {
	var names []string
	for _, m := range methods {
		if m.Name == name {
			return m, nil
		}
		names = append(names, m.Name)
	}
	return nil, fmt.Errorf("there is no method %q: there are %s", name, strings.Join(names, ", "))
}

// scalingFactor is λ, by which the merged task vector is multiplied.
func scalingFactor(fallback float64) Field {
	return Field{Name: ScalingFactor, About: "λ, by which the merged task vector is multiplied", Default: fallback, Min: -math.MaxFloat64, Max: math.MaxFloat64}
}

// density is the share of a task vector that is kept.
func density(fallback float64) Field {
	return Field{Name: Density, About: "share of each task vector that is kept", Default: fallback, Min: 0, Above: true, Max: 1}
}
