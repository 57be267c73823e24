package checkpoint

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"smelt/internal/vfs"
	"smelt/safetensors"
	"smelt/tensor"
)

const (
	adapterConfig  = "adapter_config.json"
	adapterWeights = "adapter_model.safetensors"
)

// IsAdapter reports whether a directory holds a PEFT adapter.
func IsAdapter(fsys vfs.FS, dir string) bool {
	_, err := fsys.Stat(filepath.Join(dir, adapterConfig))
	return err == nil
}

// AdapterModule is one module that an adapter changes by a low-rank update:
// ΔW = Scale·B·A, of shape [out, in].
type AdapterModule struct {
	Name  string  // of the module in the base, without ".weight"
	Rank  int     // r
	Alpha float64 // lora_alpha
	Scale float64 // Alpha/r, Alpha/√r for rsLoRA
	A     string  // tensor [r, in] in the adapter's file
	B     string  // tensor [out, r]
	// BiasB is lora_B's own bias [out], which adds Scale·BiasB to the module's
	// bias; "" without.
	BiasB string
	// FanInFanOut says that the base stores this weight as [in, out].
	FanInFanOut bool
}

// Adapter is an open PEFT LoRA adapter.
type Adapter struct {
	Dir    string
	Config Config
	// BaseModel is base_model_name_or_path, which says where the adapter was
	// trained and decides nothing.
	BaseModel string

	fs      vfs.FS
	file    *safetensors.File
	modules []AdapterModule
	saved   map[string]string
}

// OpenAdapter opens an adapter directory.
func OpenAdapter(fsys vfs.FS, dir string) (*Adapter, error) {
	a := &Adapter{Dir: dir, fs: fsys, saved: map[string]string{}}
	if err := a.open(fsys); err != nil {
		_ = a.Close()
		return nil, fmt.Errorf("adapter %s: %w", dir, err)
	}
	return a, nil
}

func (a *Adapter) open(fsys vfs.FS) (err error) {
	if a.Config, err = readConfig(fsys, a.Dir, adapterConfig); err != nil {
		return err
	}
	a.BaseModel = a.Config.Raw.Str("base_model_name_or_path")
	if a.file, err = safetensors.Open(fsys, filepath.Join(a.Dir, adapterWeights)); err != nil {
		return err
	}
	alpha, _ := a.Config.Int("lora_alpha")
	rs, _ := a.Config.Raw.Get("use_rslora")
	for _, t := range a.file.Tensors() {
		name := strings.TrimPrefix(t.Name, "base_model.model.")
		module, ok := strings.CutSuffix(name, ".lora_A.weight")
		if !ok {
			continue
		}
		m := AdapterModule{
			Name: module, Rank: t.Shape[0], Alpha: float64(alpha), A: t.Name,
			B: strings.TrimSuffix(t.Name, "A.weight") + "B.weight",
		}
		m.Scale = m.Alpha / float64(m.Rank)
		if rs.Bool {
			m.Scale = m.Alpha / math.Sqrt(float64(m.Rank))
		}
		a.modules = append(a.modules, m)
	}
	slices.SortFunc(a.modules, func(x, y AdapterModule) int { return strings.Compare(x.Name, y.Name) })
	return nil
}

// Modules returns the modules with a low-rank update, sorted by name.
func (a *Adapter) Modules() []AdapterModule { return a.modules }

// Saved returns tensors that the adapter holds in full (modules_to_save, and
// biases where bias is "all" or "lora_only"): the base's tensor name to the
// name in the adapter's file. Each replaces the base's tensor.
func (a *Adapter) Saved() map[string]string { return a.saved }

// Lookup returns the entry of a tensor in the adapter's file.
func (a *Adapter) Lookup(name string) (safetensors.Info, bool) { return a.file.Lookup(name) }

// Tensor returns a tensor of the adapter's file, as Checkpoint.Tensor does.
func (a *Adapter) Tensor(name string) (tensor.Tensor, error) { return a.file.Tensor(name) }

// CheckAgainst returns what keeps the adapter from being applied to base, in
// sentences; none where it fits.
func (a *Adapter) CheckAgainst(base *Checkpoint) []string {
	var out []string
	for _, m := range a.modules {
		if _, ok := base.Resolve(m.Name + ".weight"); !ok {
			out = append(out, fmt.Sprintf("module %q is not in the base", m.Name))
		}
	}
	return out
}

// Close unmaps the adapter's file.
func (a *Adapter) Close() error {
	if a.file == nil {
		return nil
	}
	return a.file.Close()
}
