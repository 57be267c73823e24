package engine

import (
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
// equal to it, so that the scale is 1. Changes of biases are lora_B's own.
type adapterForm struct {
	base       string
	task       string
	transposed bool
	biased     bool // some module has a Δb: PEFT then wants one in all

	ranks map[string]int // by module, from the records
}

func newAdapterForm(p *Plan, base string) *adapterForm {
	f := &adapterForm{base: base, ranks: map[string]int{}}
	if c, err := checkpoint.ParseConfig([]byte(p.BaseConfig)); err == nil {
		f.task = peftTask(c.Architectures())
	}
	for _, u := range p.Units {
		f.transposed = f.transposed || u.Transposed
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

// loraName names a tensor of a module's update.
func loraName(module, what string) string { return "base_model.model." + module + "." + what }

// reserve bounds the header.
func (f *adapterForm) reserve(p *Plan) (n [2]int) {
	var infos []safetensors.Info
	for i := range p.Units {
		u := &p.Units[i]
		for _, what := range []string{"lora_A.weight", "lora_B.weight", "lora_B.bias"} {
			infos = append(infos, safetensors.Info{Name: loraName(u.Name, what), DType: dtype.BF16, Shape: []int{u.In, u.Out}})
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
			f.ranks[j.plan.Units[r.Unit].Name] = r.Tensors[streamExperts][0].Shape[0]
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
		member("lora_bias", ojson.NewBool(f.biased)),
		member("bias", ojson.NewString("none")),
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
	if r == 0 && len(p.Bias.Data) == 0 {
		return nil, report{}, nil
	}
	var us, vt []float64
	if r > 0 {
		var err error
		if us, err = p.US.Float64(); err != nil {
			return nil, report{}, err
		}
		if vt, err = p.Vt.Float64(); err != nil {
			return nil, report{}, err
		}
	} else {
		r, us, vt = 1, make([]float64, m.Out), make([]float64, m.In) // a Δb alone still needs its layer
	}
	vt = slices.Clone(vt[:r*m.In])
	us = slices.Clone(us)
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
	tensors := []safetensors.Named{
		{Name: loraName(m.Name, "lora_A.weight"), Tensor: tensor.Tensor{DType: d, Shape: []int{r, m.In}, Data: float64Bytes(vt, d)}},
		{Name: loraName(m.Name, "lora_B.weight"), Tensor: tensor.Tensor{DType: d, Shape: []int{m.Out, r}, Data: float64Bytes(us, d)}},
	}
	if f.biased {
		b := make([]float64, m.Out)
		if len(p.Bias.Data) > 0 {
			v, err := p.Bias.Float64()
			if err != nil {
				return nil, report{}, err
			}
			copy(b, v)
		}
		tensors = append(tensors, safetensors.Named{Name: loraName(m.Name, "lora_B.bias"), Tensor: tensor.Tensor{DType: d, Shape: []int{m.Out}, Data: float64Bytes(b, d)}})
	}
	var outs []output
	rep := report{}
	for _, t := range tensors {
		outs = append(outs, seal(streamExperts, t))
		rep.Parameters += int64(t.Elements())
	}
	return outs, rep, nil
}
