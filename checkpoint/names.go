package checkpoint

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
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
// name; through tied names, where one stores what the other leaves out; and
// across a prefix that one has and the other lacks, as between a bare model
// and the same with a head (transformer., bert., model.), or a language model
// inside a composite one. A head that only the expert unties from its
// embedding stays Extra.
func MapNames(base, expert *Checkpoint) NameMap {
	m := NameMap{ToBase: map[string]string{}, ToExpert: map[string]string{}}
	r := findRename(base, expert.tensors, base.Config.part(expert.Config.ModelType()),
		func(b, e Info) bool { return slices.Equal(b.Shape, e.Shape) })
	tied := 0
	for _, t := range expert.tensors {
		b, exact := base.Lookup(r.toBase(t.Name))
		if !exact {
			var ok bool
			if b, ok = base.Resolve(r.toBase(t.Name)); !ok || expert.untied(t.Name) {
				m.Extra = append(m.Extra, t.Name)
				continue
			}
			tied++
		}
		m.ToBase[t.Name] = b.Name
		if _, taken := m.ToExpert[b.Name]; !taken || exact {
			m.ToExpert[b.Name] = t.Name
		}
	}
	for _, t := range base.tensors {
		if _, ok := m.ToExpert[t.Name]; ok {
			continue
		}
		if e, ok := expert.Resolve(r.toExpert(t.Name)); ok {
			m.ToExpert[t.Name] = e.Name
			tied++
		} else {
			m.Missing = append(m.Missing, t.Name)
		}
	}
	m.Notes = r.notes("tensors")
	if tied > 0 {
		m.Notes = append(m.Notes, fmt.Sprintf("%d tied tensors are stored under one name by one side only and were matched through it", tied))
	}
	return m
}

// untied reports whether a tensor is a head that the checkpoint stores apart
// from the embedding that it is tied to in others.
func (c *Checkpoint) untied(name string) bool {
	for _, f := range families {
		if slices.Contains(f.head, name) && len(c.anchors(f)) > 0 && c.has(c.anchors(f)[0]) {
			return !slices.ContainsFunc(c.tied, func(g []string) bool { return slices.Contains(g, name) })
		}
	}
	return false
}

// rename is how the names of an expert differ from those of its base: each
// expert name that begins with strip, mostly "", is a base name that begins
// with add instead. Only names in moved are concerned.
type rename struct {
	strip, add string
	moved      map[string]string // expert's to base's
	back       map[string]string
	total      int
}

func (r *rename) toBase(name string) string {
	if b, ok := r.moved[name]; ok {
		return b
	}
	return name
}

func (r *rename) toExpert(name string) string {
	if e, ok := r.back[name]; ok {
		return e
	}
	return name
}

func (r *rename) notes(what string) []string {
	if len(r.moved) == 0 {
		return nil
	}
	who, prefix := "the base", r.add
	if r.add == "" {
		who, prefix = "the expert", r.strip
	}
	return []string{fmt.Sprintf("%d of %d %s were matched across the prefix %q, which only the names of %s have",
		len(r.moved), r.total, what, prefix, who)}
}

// maxPrefix is how many leading segments of a name may be a prefix.
const maxPrefix = 3

// findRename finds the prefix across which most of the expert's tensors that
// have no namesake in the base find one; fits says whether two go together.
// Where several prefixes match equally many, as with the two towers of a model
// whose shapes agree, the one that has part ("vision", "text") in it is taken,
// and none where that does not decide.
func findRename(base *Checkpoint, expert []Info, part string, fits func(base, expert Info) bool) *rename {
	none := &rename{total: len(expert)}
	var lost []Info
	for _, t := range expert {
		if _, ok := base.Resolve(t.Name); !ok {
			lost = append(lost, t)
		}
	}
	if len(lost) == 0 {
		return none
	}
	var candidates [][2]string // strip, add
	for _, p := range prefixes(base.tensors) {
		candidates = append(candidates, [2]string{"", p})
	}
	for _, p := range prefixes(lost) {
		candidates = append(candidates, [2]string{p, ""})
	}
	var best []*rename // all that match the most
	for _, c := range candidates {
		r := &rename{strip: c[0], add: c[1], moved: map[string]string{}, back: map[string]string{}, total: len(expert)}
		for _, t := range lost {
			rest, ok := strings.CutPrefix(t.Name, r.strip)
			if !ok {
				continue
			}
			if b, ok := base.Resolve(r.add + rest); ok && fits(b, t) {
				r.moved[t.Name], r.back[b.Name] = r.add+rest, t.Name
			}
		}
		switch {
		case 2*len(r.moved) < len(lost):
		case len(best) == 0 || len(r.moved) > len(best[0].moved):
			best = []*rename{r}
		case len(r.moved) == len(best[0].moved):
			best = append(best, r)
		}
	}
	if len(best) > 1 && part != "" {
		best = slices.DeleteFunc(best, func(r *rename) bool { return !strings.Contains(r.add+r.strip, part) })
	}
	if len(best) != 1 {
		return none
	}
	return best[0]
}

// part returns what the part of a composite model is called that is of another
// model type: "vision" for clip_vision_model in a CLIP config.
func (c Config) part(modelType string) string {
	if modelType == c.ModelType() {
		return ""
	}
	for _, key := range nestedKeys {
		if c.Nested(key).ModelType() == modelType {
			return strings.TrimSuffix(key, "_config")
		}
	}
	return ""
}

// prefixes returns the leading segments of the names, one to maxPrefix of
// them, each with its dot.
func prefixes(tensors []Info) []string {
	seen := map[string]bool{}
	for _, t := range tensors {
		end := 0
		for range maxPrefix {
			i := strings.IndexByte(t.Name[end:], '.')
			if i < 0 {
				break
			}
			end += i + 1
			seen[t.Name[:end]] = true
		}
	}
	out := make([]string, 0, len(seen))
	for p := range seen {
		if !strings.ContainsAny(p, "0123456789") { // a layer is no part of a prefix
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	return out
}

// Compatible reports whether an expert is of its base's kind: its model_type
// is the base's, or that of one of the base's parts, such as the vision tower
// of a CLIP model.
func Compatible(base, expert Config) error {
	b, e := base.ModelType(), expert.ModelType()
	if b == e && b != "" {
		return nil
	}
	if e == "" || b == "" {
		return fmt.Errorf("config.json of the %s has no model_type", map[bool]string{true: "expert", false: "base"}[e == ""])
	}
	var have []string
	for _, key := range nestedKeys {
		part := base.Nested(key).ModelType()
		if part == e {
			return nil
		}
		if part != "" {
			have = append(have, fmt.Sprintf("%s: %s", key, part))
		}
	}
	err := fmt.Errorf("model_type is %q, but the base's is %q", e, b)
	if len(have) > 0 {
		err = fmt.Errorf("%w (with %s)", err, strings.Join(have, ", "))
	}
	return err
}
