package engine

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"text/template"

	"smelt/checkpoint"
	"smelt/dtype"
	"smelt/internal/ojson"
	"smelt/merge"
)

// plainConfig is the base's config.json, with the output's type where another
// one is asked for.
func plainConfig(p *Plan) ([]byte, error) {
	if p.Options.DType == "" {
		return []byte(p.BaseConfig), nil
	}
	c, err := checkpoint.ParseConfig([]byte(p.BaseConfig))
	if err != nil {
		return nil, fmt.Errorf("config.json of the base: %w", err)
	}
	raw := c.Raw
	raw.Members = slices.Clone(raw.Members)
	for _, key := range []string{"dtype", "torch_dtype"} {
		if _, ok := raw.Get(key); ok {
			raw.Set(key, ojson.NewString(p.target(dtype.F32).Torch()))
		}
	}
	return ojson.Indent(raw), nil
}

// mergeCard is README.md of a merge, in the hub's format.
func mergeCard(p *MergePlan) []byte {
	type row struct {
		Name, Source, Kind string
		Weight             float64
	}
	data := struct {
		Base, Generator, Auto, Settings, Command string
		Method                                   *merge.Method
		Weighted                                 bool
		Rows                                     []row
	}{Base: p.Base, Generator: "smelt " + Version, Method: p.Config.Method, Weighted: p.Config.Method.Weights != merge.NoWeights}
	data.Auto, _ = autoClass(p.Plan)
	var settings, command []string
	for _, f := range p.Config.Method.Fields {
		v := p.Config.Value(f.Name)
		settings = append(settings, fmt.Sprintf("%s %g", f.Name, v))
		command = append(command, fmt.Sprintf("--%s %g", strings.ReplaceAll(f.Name, "_", "-"), v))
	}
	for i, e := range p.Experts {
		data.Rows = append(data.Rows, row{e.Name, e.Source, e.Kind, p.Config.Weights[i]})
		if p.Config.Weights[i] != 1 || p.Config.Method.Weights == merge.NeededWeights {
			command = append(command, fmt.Sprintf("--weight %s=%g", e.Name, p.Config.Weights[i]))
		}
	}
	if p.Config.Method.Experts == 2 {
		from := p.Experts[p.Config.From].Name
		settings = append(settings, "from "+from)
	}
	data.Settings = strings.Join(settings, ", ")
	data.Command = strings.Join(append([]string{"smelt merge", p.Config.Method.Name, "BASE EXPERT... -o OUT"}, command...), " ")
	var b bytes.Buffer
	if err := mergedCard.Execute(&b, data); err != nil {
		panic(fmt.Sprintf("engine: model card: %v", err)) // the template is ours
	}
	return b.Bytes()
}

var mergedCard = template.Must(template.New("card").Funcs(template.FuncMap{"yaml": quoteYAML}).Parse(`---
base_model: {{yaml .Base}}
base_model_relation: merge
library_name: transformers
tags:
- merge
- {{.Method.Name}}
- smelt
---

# {{.Base}}: {{.Method.Title}} of {{len .Rows}} fine-tune{{if gt (len .Rows) 1}}s{{end}}

A plain checkpoint of the base's architecture: {{.Method.About}} ({{.Method.Paper}}){{with .Settings}}, with {{.}}{{end}}.

| expert | from | kind |{{if .Weighted}} weight |{{end}}
|---|---|---|{{if .Weighted}}---|{{end}}
{{range .Rows}}| {{.Name}} | {{.Source}} | {{.Kind}} |{{if $.Weighted}} {{.Weight}} |{{end}}
{{end}}
All floating-point tensors that base and experts share are merged, norms and embeddings included; each value is computed in
float64 and rounded once.

` + "```python" + `
from transformers import {{.Auto}}

model = {{.Auto}}.from_pretrained("THIS FOLDER")
` + "```" + `

Made by {{.Generator}} with ` + "`{{.Command}}`" + `.
`))
