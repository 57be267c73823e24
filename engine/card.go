package engine

import (
	"bytes"
	"fmt"
	"strings"
	"text/template"

	"smelt/checkpoint"
	"smelt/internal/ojson"
	"smelt/smile"
)

// modelCard is README.md of a fused model, in the hub's format.
func modelCard(p *Plan, m *Manifest, cfg *smile.Config) []byte {
	type row struct {
		Name, Kind, Source, DType, Ranks string
		Kept                             float64
	}
	data := struct {
		Base, Generator, Asked string
		Params                 Parameters
		Cfg                    *smile.Config
		Rows                   []row
		Changed                int
		Policy                 string
		Auto, Run              string
	}{Base: p.Base, Generator: m.Generator, Asked: m.Asked, Params: m.Parameters, Cfg: cfg, Changed: len(m.Others.Changed), Policy: m.Others.Policy}
	data.Auto, data.Run = autoClass(p)
	for i, e := range p.Experts {
		r := row{Name: e.Name, Kind: e.Kind, Source: e.Source, DType: e.DType, Ranks: rankRange(cfg, i)}
		var energy, captured float64
		for _, mod := range cfg.Modules {
			for _, f := range m.Modules[mod.Name] {
				if f.Expert == e.Name {
					energy += f.Energy
					captured += f.Captured
				}
			}
		}
		r.Kept = 100 * ratio(captured, energy)
		data.Rows = append(data.Rows, r)
	}
	var b bytes.Buffer
	if err := card.Execute(&b, data); err != nil {
		panic(fmt.Sprintf("engine: model card: %v", err)) // the template is ours
	}
	return b.Bytes()
}

// autoClass names the transformers class that loads the base, and smelt's
// command that runs it.
func autoClass(p *Plan) (auto, run string) {
	auto, run = "AutoModel", `embed "THIS FOLDER" --text "some text"`
	c, err := checkpoint.ParseConfig([]byte(p.BaseConfig))
	if err != nil {
		return auto, run
	}
	for _, name := range c.Architectures() {
		for suffix, class := range map[string]string{
			"ForCausalLM": "AutoModelForCausalLM", "LMHeadModel": "AutoModelForCausalLM", "ForConditionalGeneration": "AutoModelForSeq2SeqLM",
			"ForSequenceClassification": "AutoModelForSequenceClassification", "ForTokenClassification": "AutoModelForTokenClassification",
			"ForQuestionAnswering": "AutoModelForQuestionAnswering", "ForMaskedLM": "AutoModelForMaskedLM", "ForImageClassification": "AutoModelForImageClassification",
		} {
			if strings.HasSuffix(name, suffix) {
				auto = class
			}
		}
	}
	switch {
	case strings.HasSuffix(auto, "LM") && auto != "AutoModelForMaskedLM":
		run = `generate "THIS FOLDER" --prompt "some text"`
	case p.ModelType == "clip":
		run = `classify "THIS FOLDER" --image picture.png --labels "one thing,another"`
	}
	return auto, run
}

// rankRange says in words which ranks expert e has.
func rankRange(cfg *smile.Config, e int) string {
	lo, hi, whole, n := smile.Rank(0), smile.Rank(-1), 0, 0
	for _, m := range cfg.Modules {
		switch r := m.Ranks[e]; {
		case r == smile.Dense:
			whole++
			n++
		case r >= 0:
			if hi < 0 || r < lo {
				lo = r
			}
			hi = max(hi, r)
			n++
		}
	}
	s := ""
	switch {
	case n == 0:
		return "none"
	case hi >= 0 && lo == hi:
		s = fmt.Sprint(lo)
	case hi >= 0:
		s = fmt.Sprintf("%d–%d", lo, hi)
	}
	if whole > 0 {
		if s != "" {
			s += ", "
		}
		s += fmt.Sprintf("dense in %d", whole)
	}
	return fmt.Sprintf("%s (%d modules)", s, n)
}

func quoteYAML(s string) string { return string(ojson.AppendString(nil, s)) }

var card = template.Must(template.New("card").Funcs(template.FuncMap{"yaml": quoteYAML}).Parse(`---
base_model: {{yaml .Base}}
base_model_relation: merge
library_name: transformers
tags:
- merge
- smile
- smelt
---

# {{.Base}} with {{len .Rows}} expert{{if gt (len .Rows) 1}}s{{end}}

{{len .Rows}} fine-tune{{if gt (len .Rows) 1}}s{{end}} of ` + "`{{.Base}}`" + `, fused without retraining into one checkpoint with
[SMILE](https://arxiv.org/abs/2408.10174): the change of each fine-tune to each linear layer is kept as a low-rank expert, and
a router that needed no training picks {{if eq .Cfg.TopK 1}}one expert{{else}}{{.Cfg.TopK}} experts{{end}} per token and layer.

| expert | from | kind | type | ranks | energy kept |
|---|---|---|---|---|---|
{{range .Rows}}| {{.Name}} | {{.Source}} | {{.Kind}} | {{.DType}} | {{.Ranks}} | {{if .Kept}}{{printf "%.2f" .Kept}} %{{else}}–{{end}} |
{{end}}
Router rank {{.Cfg.RouterRank}}, {{len .Cfg.Modules}} fused layers, ranks by {{.Asked}}. Parameters: {{.Params.Output}}, {{printf "%.3f" .Params.Ratio}} × the base's {{.Params.Base}}.
{{if .Changed}}{{.Changed}} tensors differ from the base but are not fused (norms, embeddings, …); {{if eq .Policy "base"}}the base's are kept{{else}}their mean over the experts is stored{{end}}. ` + "`smelt.json`" + ` lists them.
{{end}}
## Use

In transformers, with the class that you would use for the base:

` + "```python" + `
from transformers import {{.Auto}}

model = {{.Auto}}.from_pretrained("THIS FOLDER", trust_remote_code=True)
` + "```" + `

In smelt, without Python:

` + "```" + `
smelt inspect "THIS FOLDER"
smelt {{.Run}}
` + "```" + `

As one LoRA adapter per expert, for servers that switch adapters, or as the plain checkpoint of one expert:

` + "```" + `
smelt convert "THIS FOLDER" --to lora -o adapters
smelt convert "THIS FOLDER" --to dense --expert {{(index .Rows 0).Name}} -o dense
` + "```" + `

## What the figures mean

The energy kept is the share of the squared Frobenius norm of all deltas of an expert. It is not accuracy: measure that on your tasks.
Made by {{.Generator}}; ` + "`smelt verify`" + ` checks the files against ` + "`smelt.json`" + `.
`))
