package checkpoint

import (
	"errors"
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
	Name  string  // of the module in the base, without ".weight"; see Rebase
	Rank  int     // r
	Alpha float64 // lora_alpha
	Scale float64 // Alpha/r, Alpha/√r for rsLoRA
	A     string  // tensor [r, in] in the adapter's file
	B     string  // tensor [out, r]
	// BiasB is lora_B's own bias [out], which adds Scale·BiasB to the module's
	// bias; "" without.
	BiasB string
	// FanInFanOut is the config's word on whether the base stores this weight
	// as [in, out]. PEFT goes by the module's class instead and corrects it;
	// so Checkpoint.Transposed is the better judge.
	FanInFanOut bool
}

// Adapter is an open PEFT LoRA adapter. Its methods may be called
// concurrently, but for Rebase and Close.
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

// OpenAdapter opens an adapter directory and checks that config and tensors
// belong together. Adapters that are no plain low-rank update of the base's
// own weights are refused by name, since read as one they would be silently
// wrong; docs/format/checkpoint.md lists them.
func OpenAdapter(fsys vfs.FS, dir string) (*Adapter, error) {
	a := &Adapter{Dir: dir, fs: fsys, saved: map[string]string{}}
	if err := a.open(); err != nil {
		_ = a.Close()
		return nil, fmt.Errorf("adapter %s: %w", dir, err)
	}
	return a, nil
}

func (a *Adapter) open() (err error) {
	if err := contained(a.fs, a.Dir, adapterConfig); err != nil {
		return err
	}
	if a.Config, err = readConfig(a.fs, a.Dir, adapterConfig); err != nil {
		return err
	}
	a.BaseModel = a.Config.Raw.Str("base_model_name_or_path")
	settings, err := parseAdapter(a.Config)
	if err != nil {
		return fmt.Errorf("%s: %w", adapterConfig, err)
	}
	if notFound(a.fs, filepath.Join(a.Dir, adapterWeights)) {
		if !notFound(a.fs, filepath.Join(a.Dir, "adapter_model.bin")) {
			return errors.New("adapter_model.bin is a pickle, which can run code when it is read and is refused: load the adapter in PEFT and save it again with save_pretrained(DIR, safe_serialization=True)")
		}
		return fmt.Errorf("%s is missing", adapterWeights)
	}
	if err := contained(a.fs, a.Dir, adapterWeights); err != nil {
		return err
	}
	if a.file, err = safetensors.Open(a.fs, filepath.Join(a.Dir, adapterWeights)); err != nil {
		return err
	}
	return a.read(settings)
}

// read sorts the tensors of the file into modules and saved tensors.
func (a *Adapter) read(s *adapterSettings) error {
	var probs problems
	byName := map[string]*AdapterModule{}
	name := adapterName(a.file.Tensors())
	for _, t := range a.file.Tensors() {
		k := parseKey(t.Name, name)
		if k.part == "" {
			if why := a.addSaved(k.module, t, s); why != "" {
				probs.add("%s", why)
			}
			continue
		}
		m := byName[k.module]
		if m == nil {
			m = &AdapterModule{Name: k.module, FanInFanOut: s.fanInFanOut}
			byName[k.module] = m
		}
		to := map[string]*string{"A.weight": &m.A, "B.weight": &m.B, "B.bias": &m.BiasB}[k.part]
		switch {
		case to == nil:
			probs.add("tensor %q: %s", t.Name, unknownPart(k.part))
		case *to != "":
			probs.add("tensors %q and %q are the same part of one module", *to, t.Name)
		case !t.DType.IsFloat():
			probs.add("tensor %q is %v, want a floating-point type", t.Name, t.DType)
		default:
			*to = t.Name
		}
	}
	if err := probs.err(); err != nil { // incomplete modules would only repeat it
		return err
	}
	for _, m := range byName {
		if err := a.complete(m, s); err != nil {
			probs.add("module %q: %v", m.Name, err)
			continue
		}
		a.modules = append(a.modules, *m)
	}
	slices.Sort(probs.list)
	slices.SortFunc(a.modules, func(x, y AdapterModule) int { return strings.Compare(x.Name, y.Name) })
	if len(a.modules)+len(a.saved) == 0 && len(probs.list) == 0 {
		return fmt.Errorf("%s holds no tensors", adapterWeights)
	}
	return probs.err()
}

// complete checks a module's tensors and works out its scale.
func (a *Adapter) complete(m *AdapterModule, s *adapterSettings) error {
	if m.A == "" || m.B == "" {
		return errors.New("has only one of lora_A and lora_B")
	}
	x, _ := a.file.Lookup(m.A)
	y, _ := a.file.Lookup(m.B)
	switch {
	case len(x.Shape) > 2 || len(y.Shape) > 2:
		return fmt.Errorf("lora_A is %v: updates of convolutions are not read: %s", x.Shape, mergeFirst)
	case len(x.Shape) != 2 || len(y.Shape) != 2 || x.Elements() == 0 || y.Elements() == 0:
		return fmt.Errorf("lora_A is %v and lora_B %v, want [r,in] and [out,r] (shards that were not gathered when saving?)", x.Shape, y.Shape)
	case x.Shape[0] != y.Shape[1]:
		return fmt.Errorf("lora_A is %v and lora_B %v: the ranks differ", x.Shape, y.Shape)
	}
	if b, ok := a.file.Lookup(m.BiasB); ok {
		if !s.loraBias {
			return errors.New("lora_B has a bias, but lora_bias is not set")
		}
		if len(b.Shape) != 1 || b.Shape[0] != y.Shape[0] {
			return fmt.Errorf("lora_B's bias is %v, want [%d]", b.Shape, y.Shape[0])
		}
	}
	in, err := s.target(m.Name)
	if err != nil {
		return err
	}
	if !in {
		return errors.New("is in the file but not among target_modules: PEFT would leave it out")
	}
	r, err := lookup(s.ranks, m.Name, float64(s.rank))
	if err != nil {
		return err
	}
	if m.Alpha, err = lookup(s.alphas, m.Name, s.alpha); err != nil {
		return err
	}
	m.Rank = x.Shape[0]
	if float64(m.Rank) != r {
		return fmt.Errorf("lora_A is %v, of rank %d, but the config says %v", x.Shape, m.Rank, r)
	}
	m.Scale = m.Alpha / r
	if s.rsLoRA {
		m.Scale = m.Alpha / math.Sqrt(r)
	}
	return nil
}

// addSaved adds a tensor that is no part of an update; it returns why it has
// no business in the file, or "".
func (a *Adapter) addSaved(name string, t safetensors.Info, s *adapterSettings) string {
	if name == "" {
		return "" // the base's own copy
	}
	inSaved := slices.ContainsFunc(s.saved, func(m string) bool { return strings.Contains("."+name, "."+m+".") })
	kind := Classify(Config{}, name, t.Shape)
	switch {
	case inSaved, kind == Embedding, kind == Head: // PEFT saves resized embeddings and heads unasked
	case strings.HasSuffix(name, ".bias") && s.bias != "none":
	default:
		return fmt.Sprintf("tensor %q is neither part of an update nor of modules_to_save, and bias is %q", t.Name, s.bias)
	}
	if other, dup := a.saved[name]; dup {
		return fmt.Sprintf("tensors %q and %q stand for one tensor of the base", other, t.Name)
	}
	a.saved[name] = t.Name
	return ""
}

// Modules returns the modules with a low-rank update, sorted by name. The
// caller must not change it.
func (a *Adapter) Modules() []AdapterModule { return a.modules }

// Saved returns tensors that the adapter holds in full (modules_to_save,
// resized embeddings, and biases where bias is "all" or "lora_only"): the
// base's tensor name to the name in the adapter's file. Each replaces the
// base's tensor. The caller must not change it.
func (a *Adapter) Saved() map[string]string { return a.saved }

// Lookup returns the entry of a tensor in the adapter's file.
func (a *Adapter) Lookup(name string) (safetensors.Info, bool) { return a.file.Lookup(name) }

// Tensor returns a tensor of the adapter's file, as Checkpoint.Tensor does.
func (a *Adapter) Tensor(name string) (tensor.Tensor, error) { return a.file.Tensor(name) }

// Close unmaps the adapter's file.
func (a *Adapter) Close() error {
	if a.file == nil {
		return nil
	}
	return a.file.Close()
}
