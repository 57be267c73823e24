package smile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// FormatVersion is the version of the native format that this package reads
// and writes (docs/format/native.md).
const FormatVersion = 1

// Limits on what a block may claim, so that a hostile config cannot make a
// reader allocate.
const (
	maxExperts = 1 << 12
	maxModules = 1 << 17
	maxDim     = 1 << 28
)

// Kinds of experts, as stored in a block.
const (
	KindFull = "full" // a full checkpoint
	KindLoRA = "lora" // a PEFT LoRA adapter
)

// Expert describes one expert of a fused model.
type Expert struct {
	Name   string `json:"name"`
	Kind   string `json:"kind"`
	Source string `json:"source"` // the folder's name, never a path
	DType  string `json:"dtype"`
}

// Rank says how an expert is kept in one module.
type Rank int

// The two values of Rank that are no ranks.
const (
	Untouched Rank = -1 // the expert did not change the module
	Dense     Rank = -2 // the expert's delta is kept whole
)

// MarshalJSON writes a number, "dense" or null.
func (r Rank) MarshalJSON() ([]byte, error) {
	switch {
	case r == Untouched:
		return []byte("null"), nil
	case r == Dense:
		return []byte(`"dense"`), nil
	case r >= 0:
		return strconv.AppendInt(nil, int64(r), 10), nil
	}
	return nil, fmt.Errorf("smile: rank %d does not exist", int(r))
}

// UnmarshalJSON reads a number, "dense" or null.
func (r *Rank) UnmarshalJSON(data []byte) error {
	switch s := string(data); s {
	case "null":
		*r = Untouched
	case `"dense"`:
		*r = Dense
	default:
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 || n > maxDim {
			return fmt.Errorf(`smile: rank %.20s: want a number ≥ 0, "dense" or null`, s)
		}
		*r = Rank(n)
	}
	return nil
}

// Module describes one fused linear layer.
type Module struct {
	Name       string `json:"-"`
	In         int    `json:"in"`
	Out        int    `json:"out"`
	RouterRank int    `json:"rank_of_router"`
	Ranks      []Rank `json:"rank_of_expert"` // [E]
	Transposed bool   `json:"transposed,omitempty"`
	Bias       bool   `json:"bias,omitempty"` // smile.bias is there
}

// Rows is R_e, the rows of vt that expert e has.
func (m *Module) Rows(e int) int {
	switch r := m.Ranks[e]; r {
	case Untouched:
		return 0
	case Dense:
		return m.RouterRank
	default:
		return max(int(r), m.RouterRank)
	}
}

// TotalRows is Σ R_e, the rows of vt.
func (m *Module) TotalRows() int {
	n := 0
	for e := range m.Ranks {
		n += m.Rows(e)
	}
	return n
}

// TotalRank is Σ r_e over the low-rank experts, the columns of us.
func (m *Module) TotalRank() int {
	n := 0
	for _, r := range m.Ranks {
		n += max(int(r), 0)
	}
	return n
}

// Parameters counts what the experts of the module add, without bias.
func (m *Module) Parameters() int64 {
	n := int64(m.TotalRows())*int64(m.In) + int64(m.TotalRank())*int64(m.Out)
	for _, r := range m.Ranks {
		if r == Dense {
			n += int64(m.In) * int64(m.Out)
		}
	}
	return n
}

// Config is the smile block of a fused model's config.json.
type Config struct {
	Base          string // the base's folder
	BaseModelType string
	Experts       []Expert
	TopK          int
	RouterRank    int
	Modules       []Module // in the order of the base's tensors
}

// Module finds a module by name; nil where the layer is not fused.
func (c *Config) Module(name string) *Module {
	for i := range c.Modules {
		if c.Modules[i].Name == name {
			return &c.Modules[i]
		}
	}
	return nil
}

// ExpertNames lists the experts' names in index order.
func (c *Config) ExpertNames() []string {
	names := make([]string, len(c.Experts))
	for i, e := range c.Experts {
		names[i] = e.Name
	}
	return names
}

// VtName names the right singular vectors of a module's experts.
func VtName(module string) string { return module + ".smile.vt" }

// USName names the scaled left singular vectors of a module's experts.
func USName(module string) string { return module + ".smile.us" }

// BiasName names the changes of a module's bias.
func BiasName(module string) string { return module + ".smile.bias" }

// DenseName names the delta of expert e, kept whole.
func DenseName(module string, e int) string { return module + ".smile.dense." + strconv.Itoa(e) }

// OwnName names a tensor that only expert e has.
func OwnName(e int, tensor string) string { return ownPrefix + strconv.Itoa(e) + "." + tensor }

const ownPrefix = "smile.own."

// ParseOwn is the inverse of OwnName.
func ParseOwn(name string) (e int, tensor string, ok bool) {
	rest, ok := strings.CutPrefix(name, ownPrefix)
	if !ok {
		return 0, "", false
	}
	number, tensor, ok := strings.Cut(rest, ".")
	e, err := strconv.Atoi(number)
	return e, tensor, ok && err == nil && e >= 0
}

// IsExpertTensor tells the experts' tensors from the base's.
func IsExpertTensor(name string) bool {
	return strings.Contains(name, ".smile.") || strings.HasPrefix(name, ownPrefix)
}

// block is Config as it stands in the file.
type block struct {
	Format        int       `json:"format"`
	Base          string    `json:"base,omitempty"`
	BaseModelType string    `json:"base_model_type"`
	Experts       []Expert  `json:"experts"`
	NumExperts    int       `json:"num_local_experts"`
	TopK          int       `json:"num_experts_per_tok"`
	RouterRank    int       `json:"rank_of_router"`
	Modules       moduleMap `json:"modules"`
}

// moduleMap is a JSON object of modules that keeps its order.
type moduleMap []Module

func (m moduleMap) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, mod := range m {
		if i > 0 {
			b.WriteByte(',')
		}
		key, err := json.Marshal(mod.Name)
		if err != nil {
			return nil, err
		}
		val, err := json.Marshal(mod)
		if err != nil {
			return nil, err
		}
		b.Write(key)
		b.WriteByte(':')
		b.Write(val)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

func (m *moduleMap) UnmarshalJSON(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return errors.New("smile: modules: want an object")
	}
	seen := map[string]bool{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return err
		}
		name, _ := t.(string)
		if seen[name] {
			return fmt.Errorf("smile: module %q appears twice", name)
		}
		seen[name] = true
		if len(*m) >= maxModules {
			return fmt.Errorf("smile: more than %d modules", maxModules)
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return err
		}
		mod := Module{}
		if err := strict(raw, &mod); err != nil {
			return fmt.Errorf("smile: module %q: %w", name, err)
		}
		mod.Name = name
		*m = append(*m, mod)
	}
	return nil
}

func strict(data []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	return dec.Decode(v)
}

// MarshalJSON writes the block.
func (c *Config) MarshalJSON() ([]byte, error) {
	return json.Marshal(block{
		Format: FormatVersion, Base: c.Base, BaseModelType: c.BaseModelType, Experts: c.Experts,
		NumExperts: len(c.Experts), TopK: c.TopK, RouterRank: c.RouterRank, Modules: c.Modules,
	})
}

// ParseConfig reads and checks a smile block. Unknown keys and an unknown
// format version are errors, so that an older reader never misreads a newer
// file.
func ParseConfig(data []byte) (*Config, error) {
	var version struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return nil, fmt.Errorf("smile: block of config.json: %w", err)
	}
	if version.Format != FormatVersion {
		return nil, fmt.Errorf("smile: block of config.json: format %d, this version reads %d: use a newer smelt", version.Format, FormatVersion)
	}
	var b block
	if err := strict(data, &b); err != nil {
		return nil, fmt.Errorf("smile: block of config.json: %w", err)
	}
	c := &Config{Base: b.Base, BaseModelType: b.BaseModelType, Experts: b.Experts, TopK: b.TopK, RouterRank: b.RouterRank, Modules: b.Modules}
	if b.NumExperts != len(b.Experts) {
		return nil, fmt.Errorf("smile: num_local_experts is %d, but %d experts are listed", b.NumExperts, len(b.Experts))
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return c, nil
}

// Validate checks that the block is consistent in itself.
func (c *Config) Validate() error {
	e := len(c.Experts)
	switch {
	case e == 0 || e > maxExperts:
		return fmt.Errorf("smile: %d experts, want 1 to %d", e, maxExperts)
	case c.TopK < 1 || c.TopK > e:
		return fmt.Errorf("smile: num_experts_per_tok is %d, want 1 to %d (the number of experts)", c.TopK, e)
	case c.RouterRank < 1 || c.RouterRank > maxDim:
		return fmt.Errorf("smile: rank_of_router is %d, want at least 1", c.RouterRank)
	}
	if names := c.ExpertNames(); !sort.StringsAreSorted(names) || len(slices.Compact(slices.Clone(names))) != e {
		return fmt.Errorf("smile: experts %q are not sorted or not unique", names)
	}
	for i := range c.Modules {
		if err := c.Modules[i].validate(e, c.RouterRank); err != nil {
			return err
		}
	}
	return nil
}

func (m *Module) validate(experts, routerRank int) error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("smile: module %q: %s", m.Name, fmt.Sprintf(format, args...))
	}
	if m.In < 1 || m.In > maxDim || m.Out < 1 || m.Out > maxDim {
		return fail("shape [%d,%d]", m.Out, m.In)
	}
	if len(m.Ranks) != experts {
		return fail("%d ranks for %d experts", len(m.Ranks), experts)
	}
	least := min(m.In, m.Out)
	touched := false
	for e, r := range m.Ranks {
		touched = touched || r != Untouched
		if int(r) > least {
			return fail("expert %d: rank %d exceeds min(out,in) = %d", e, r, least)
		}
	}
	lowest := 1
	if !touched {
		lowest = 0 // only a bias changed
	}
	if m.RouterRank < lowest || m.RouterRank > min(routerRank, least) {
		return fail("rank_of_router is %d, want %d to %d", m.RouterRank, lowest, min(routerRank, least))
	}
	return nil
}
