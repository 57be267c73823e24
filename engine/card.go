package engine

import (
	"bytes"
	"fmt"
	"text/template"

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
	}{Base: p.Base, Generator: m.Generator, Asked: m.Asked, Params: m.Parameters, Cfg: cfg, Changed: len(m.Others.Changed), Policy: m.Others.Policy}
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
{{range .Rows}}| {{.Name}} | {{.Source}} | {{.Kind}} | {{.DType}} | {{.Ranks}} | {{printf "%.2f" .Kept}} % |
{{end}}
Router rank {{.Cfg.RouterRank}}, {{len .Cfg.Modules}} fused layers, ranks by {{.Asked}}. Parameters: {{.Params.Output}}, {{printf "%.3f" .Params.Ratio}} × the base's {{.Params.Base}}.
{{if .Changed}}{{.Changed}} tensors differ from the base but are not fused (norms, embeddings, …); {{if eq .Policy "base"}}the base's are kept{{else}}their mean over the experts is stored{{end}}. ` + "`smelt.json`" + ` lists them.
{{end}}
The energy kept is the share of the squared Frobenius norm of all deltas of an expert. It is not accuracy: measure that on your tasks.
Made by {{.Generator}}; ` + "`smelt verify`" + ` checks the files against ` + "`smelt.json`" + `.
`))
