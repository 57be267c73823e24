package checkpoint

import (
	"fmt"
)

// NameMap says which tensor of a base each tensor of an expert stands for.
type NameMap struct {
	ToBase   map[string]string // expert's stored name to base's stored name
	ToExpert map[string]string // base's stored name to expert's stored name
	Notes    []string          // how names were matched, in sentences; empty where all were equal
	Missing  []string          // stored in the base, matched by nothing in the expert
	Extra    []string          // stored in the expert, matched by nothing in the base
}

// MapNames matches the tensors of an expert with those of its base: by equal
// name, through tied names, and across a prefix that one of them has and the
// other lacks.
func MapNames(base, expert *Checkpoint) NameMap {
	m := NameMap{ToBase: map[string]string{}, ToExpert: map[string]string{}}
	for _, t := range expert.Tensors() {
		if b, ok := base.Resolve(t.Name); ok {
			m.ToBase[t.Name] = b.Name
			if _, ok := m.ToExpert[b.Name]; !ok || b.Name == t.Name {
				m.ToExpert[b.Name] = t.Name
			}
		} else {
			m.Extra = append(m.Extra, t.Name)
		}
	}
	for _, t := range base.Tensors() {
		if _, ok := m.ToExpert[t.Name]; ok {
			continue
		}
		if e, ok := expert.Resolve(t.Name); ok {
			m.ToExpert[t.Name] = e.Name
		} else {
			m.Missing = append(m.Missing, t.Name)
		}
	}
	return m
}

// Compatible reports whether the expert is of the base's kind: its model_type
// is the base's or that of one of the base's parts.
func Compatible(base, expert Config) error {
	b, e := base.ModelType(), expert.ModelType()
	if b == e {
		return nil
	}
	for _, part := range base.Parts() {
		if part.ModelType() == e {
			return nil
		}
	}
	return fmt.Errorf("model_type is %q, but the base's is %q", e, b)
}
