package engine

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"smelt/checkpoint"
	"smelt/dtype"
	"smelt/internal/ojson"
	"smelt/safetensors"
	"smelt/smile"
	"smelt/tensor"
)

// adapterForm is a PEFT LoRA adapter: ΔW = B·A with A = √S·Vt and B = U·√S, so
// that neither factor dwarfs the other. Each module has its own rank, and alpha
// equal to it, so that the scale is 1. Changes of biases are lora_B's own where
// every target has a bias (PEFT merges no others), else whole biases that
// replace the base's, as bias: "all" stores them.
type adapterForm struct {
	base       string
	config     checkpoint.Config // of the base
	task       string
	transposed bool
	biased     bool // some module has a Δb
	everywhere bool // every target has a bias in the base
	baseBias   func(module string) (tensor.Tensor, error)

	ranks map[string]int // by module as PEFT names it, from the records
}

func newAdapterForm(p *Plan, base string, weights *checkpoint.Checkpoint) *adapterForm {
	f := &adapterForm{base: base, ranks: map[string]int{}, everywhere: true}
	f.baseBias = func(module string) (tensor.Tensor, error) { return weights.Tensor(module + ".bias") }
	if c, err := checkpoint.ParseConfig([]byte(p.BaseConfig)); err == nil {
		f.config, f.task = c, peftTask(c.Architectures())
	}
	for _, u := range p.Units {
		f.transposed = f.transposed || u.Transposed
		f.everywhere = f.everywhere && len(u.Tensors) == 2
	}
	return f
}

// peftTask is PEFT's task_type for a class of transformers, "" for none.
func peftTask(architectures []string) string {
	for suffix, task := range map[string]string{
		"ForCausalLM": "CAUSAL_LM", "LMHeadModel": "CAUSAL_LM", "ForSequenceClassification": "SEQ_CLS",
		"ForTokenClassification": "TOKEN_CLS", "ForQuestionAnswering": "QUESTION_ANS",
	} {
		if slices.ContainsFunc(architectures, func(a string) bool { return strings.HasSuffix(a, suffix) }) {
			return task
		}
	}
	if slices.ContainsFunc(architectures, func(a string) bool { return a == "T5ForConditionalGeneration" }) {
		return "SEQ_2_SEQ_LM"
	}
	return ""
}

// name names a tensor of a module's update.
func (f *adapterForm) name(module, what string) string {
	return "base_model.model." + f.config.InMemory(module) + "." + what
}

// reserve bounds the header.
func (f *adapterForm) reserve(p *Plan) (n [2]int) {
	var infos []safetensors.Info
	for i := range p.Units {
		u := &p.Units[i]
		for _, what := range []string{"lora_A.weight", "lora_B.weight", "base_layer.bias"} {
			infos = append(infos, safetensors.Info{Name: f.name(u.Name, what), DType: dtype.BF16, Shape: []int{u.In, u.Out}})
		}
	}
	n[streamExperts] = safetensors.HeaderBound(infos, metadata)
	return n
}

func (f *adapterForm) shards(counts [2]int) (names [2][]string) {
	if counts[streamExperts] > 0 {
		names[streamExperts] = []string{"adapter_model.safetensors"}
	}
	return names
}

func (f *adapterForm) result(j *job, records []record) (*Result, error) {
	res := &Result{Out: j.out, Captured: map[string]float64{}, Warnings: slices.Clone(j.plan.Warnings)}
	res.Parameters.Base = j.plan.Parameters
	var energy, captured float64
	for _, r := range records {
		if len(r.Tensors[streamExperts]) > 0 {
			res.Modules++
			if first := r.Tensors[streamExperts][0]; strings.HasSuffix(first.Name, "lora_A.weight") {
				f.ranks[f.config.InMemory(j.plan.Units[r.Unit].Name)] = first.Shape[0]
			}
		}
		res.Parameters.Output += r.Report.Parameters
		if m := r.Report.Module; m != nil {
			energy += m.Fidelity[0].Energy
			captured += m.Fidelity[0].Captured
			res.Captured[m.Fidelity[0].Expert] = ratio(captured, energy)
		}
	}
	return res, nil
}

func (f *adapterForm) files(_ *job, _ []record, _ map[string]manifestShard, _ map[string]string) ([]namedFile, error) {
	names := make([]string, 0, len(f.ranks))
	count := map[int]int{}
	for name, r := range f.ranks {
		names = append(names, name)
		count[r]++
	}
	slices.Sort(names)
	usual := 1
	for r, n := range count {
		if m := count[usual]; n > m || n == m && r < usual {
			usual = r
		}
	}
	var pattern []ojson.Member
	targets := make([]ojson.Value, len(names))
	for i, name := range names {
		targets[i] = ojson.NewString(name)
		if r := f.ranks[name]; r != usual {
			pattern = append(pattern, ojson.Member{Name: name, Value: ojson.NewInt(r)})
		}
	}
	task := ojson.Value{}
	if f.task != "" {
		task = ojson.NewString(f.task)
	}
	bias := "none"
	if f.biased && !f.everywhere {
		bias = "all"
	}
	member := func(name string, v ojson.Value) ojson.Member { return ojson.Member{Name: name, Value: v} }
	config := ojson.NewObject(
		member("peft_type", ojson.NewString("LORA")),
		member("task_type", task),
		member("base_model_name_or_path", ojson.NewString(f.base)),
		member("inference_mode", ojson.NewBool(true)),
		member("r", ojson.NewInt(usual)),
		member("lora_alpha", ojson.NewInt(usual)),
		member("lora_dropout", ojson.NewFloat(0)),
		member("use_rslora", ojson.NewBool(false)),
		member("use_dora", ojson.NewBool(false)),
		member("lora_bias", ojson.NewBool(f.biased && f.everywhere)),
		member("bias", ojson.NewString(bias)),
		member("fan_in_fan_out", ojson.NewBool(f.transposed)),
		member("init_lora_weights", ojson.NewBool(true)),
		member("modules_to_save", ojson.Value{}),
		member("target_modules", ojson.NewArray(targets...)),
		member("rank_pattern", ojson.NewObject(pattern...)),
		member("alpha_pattern", ojson.NewObject(pattern...)),
	)
	return []namedFile{{"adapter_config.json", ojson.Indent(config)}}, nil
}

// fromPart makes an expert's adapter tensors of one module from what a fused
// model stores of it, in the stored type.
func (f *adapterForm) fromPart(m *smile.Module, p smile.Part) ([]output, report, error) {
	d := p.Vt.DType
	if len(p.Vt.Data) == 0 {
		d = p.Bias.DType
	}
	return f.fromPartAs(m, p, d)
}

func (f *adapterForm) fromPartAs(m *smile.Module, p smile.Part, d dtype.DType) ([]output, report, error) {
	if p.Rank == smile.Dense {
		delta, _, _, err := reconstruct(p, m)
		if err != nil {
			return nil, report{}, err
		}
		if p, err = wholePart(delta, m); err != nil {
			return nil, report{}, err
		}
	}
	r := int(max(p.Rank, 0))
	var tensors []safetensors.Named
	add := func(what string, d dtype.DType, v []float64, shape ...int) {
		tensors = append(tensors, safetensors.Named{Name: f.name(m.Name, what), Tensor: tensor.Tensor{DType: d, Shape: shape, Data: float64Bytes(v, d)}})
	}
	delta := make([]float64, m.Out) // Δb
	if len(p.Bias.Data) > 0 {
		var err error
		if delta, err = p.Bias.Float64(); err != nil {
			return nil, report{}, err
		}
	}
	lora := f.biased && f.everywhere
	if r > 0 {
		us, vt, err := balanced(m, p)
		if err != nil {
			return nil, report{}, err
		}
		add("lora_A.weight", d, vt, r, m.In)
		add("lora_B.weight", d, us, m.Out, r)
	} else if lora && len(p.Bias.Data) > 0 { // a Δb alone still needs its layer
		add("lora_A.weight", d, make([]float64, m.In), 1, m.In)
		add("lora_B.weight", d, make([]float64, m.Out), m.Out, 1)
	}
	switch {
	case lora && len(tensors) > 0:
		add("lora_B.bias", d, delta, m.Out)
	case !lora && len(p.Bias.Data) > 0:
		b, err := f.baseBias(m.Name)
		if err != nil {
			return nil, report{}, fmt.Errorf("an adapter cannot give a bias to a layer that has none: %w", err)
		}
		v, err := b.Float64()
		if err != nil {
			return nil, report{}, err
		}
		for i := range delta {
			delta[i] += v[i]
		}
		add("base_layer.bias", b.DType, delta, m.Out)
	}
	var outs []output
	rep := report{}
	for _, t := range tensors {
		outs = append(outs, seal(streamExperts, t))
		rep.Parameters += int64(t.Elements())
	}
	return outs, rep, nil
}

// balanced is A [r, in] and B [out, r] of a part: √S goes to either side.
func balanced(m *smile.Module, p smile.Part) (us, vt []float64, err error) {
	r := int(p.Rank)
	if us, err = p.US.Float64(); err != nil {
		return nil, nil, err
	}
	if vt, err = p.Vt.Float64(); err != nil {
		return nil, nil, err
	}
	us, vt = slices.Clone(us), slices.Clone(vt[:r*m.In])
	for k := range r {
		s := 0.0
		for i := range m.Out {
			s += us[i*r+k] * us[i*r+k]
		}
		if s = math.Sqrt(math.Sqrt(s)); s == 0 { // √σ
			continue
		}
		for i := range m.Out {
			us[i*r+k] /= s
		}
		for j := range m.In {
			vt[k*m.In+j] *= s
		}
	}
	return us, vt, nil
}
