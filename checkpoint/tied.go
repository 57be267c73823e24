package checkpoint

import (
	"slices"
	"strings"
)

// family is a set of names that may stand for one weight.
type family struct {
	anchor string   // where transformers keeps it; a leading "*." is any one module
	always []string // share it in every model that has them
	head   []string // share it where the config ties embeddings
}

// families are the tied weights of the models that transformers knows.
var families = []family{
	{"shared.weight", []string{"encoder.embed_tokens.weight", "decoder.embed_tokens.weight"}, []string{"lm_head.weight"}},
	{"model.shared.weight", []string{"model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"}, []string{"lm_head.weight"}},
	{"model.embed_tokens.weight", nil, []string{"lm_head.weight"}},
	{"model.language_model.embed_tokens.weight", nil, []string{"lm_head.weight"}},
	{"language_model.model.embed_tokens.weight", nil, []string{"language_model.lm_head.weight"}},
	{"model.decoder.embed_tokens.weight", nil, []string{"lm_head.weight", "proj_out.weight"}},
	{"transformer.wte.weight", nil, []string{"lm_head.weight"}},
	{"decoder.transformer.wte.weight", nil, []string{"decoder.lm_head.weight"}},
	{"transformer.tokens_embed.weight", nil, []string{"lm_head.weight"}},
	{"transformer.word_embeddings.weight", nil, []string{"lm_head.weight"}},
	{"gpt_neox.embed_in.weight", nil, []string{"embed_out.weight"}},
	{"model.embeddings.tok_embeddings.weight", nil, []string{"decoder.weight"}},
	{"*.embeddings.word_embeddings.weight", nil, []string{
		"cls.predictions.decoder.weight", "lm_head.decoder.weight", "predictions.decoder.weight",
		"generator_lm_head.weight", "vocab_projector.weight",
	}},
	{"cls.predictions.bias", []string{"cls.predictions.decoder.bias"}, nil},
	{"lm_head.bias", []string{"lm_head.decoder.bias"}, nil},
	{"predictions.bias", []string{"predictions.decoder.bias"}, nil},
}

// headOf says which head goes with a module of encoder models; where it is not
// listed the first one stored does.
var headOf = map[string]string{
	"bert": "cls.predictions.decoder.weight", "deberta": "cls.predictions.decoder.weight",
	"roberta": "lm_head.decoder.weight", "mpnet": "lm_head.decoder.weight", "camembert": "lm_head.decoder.weight",
	"albert": "predictions.decoder.weight", "electra": "generator_lm_head.weight",
	"distilbert": "vocab_projector.weight",
}

// withHead are parts of the names of model classes that have a language
// modelling head, to tie or not to tie.
var withHead = []string{
	"CausalLM", "LMHead", "MaskedLM", "ConditionalGeneration", "BertForPreTraining", "DoubleHeads", "EncoderDecoder",
}

// tiedGroups returns the groups of names that stand for one weight.
func tiedGroups(c *Checkpoint) [][]string {
	var groups [][]string
	for _, f := range families {
		for _, anchor := range c.anchors(f) {
			group := []string{anchor}
			for _, name := range f.always {
				if c.has(name) || c.hasModule(name) {
					group = append(group, name)
				}
			}
			for _, name := range c.heads(f, anchor) {
				if c.tiesHead(anchor, name) {
					group = append(group, name)
				}
			}
			if len(group) > 1 && !slices.ContainsFunc(groups, func(g []string) bool { return g[0] == anchor }) {
				groups = append(groups, group)
			}
		}
	}
	return groups
}

// has reports whether all these names are stored.
func (c *Checkpoint) has(names ...string) bool {
	for _, name := range names {
		if _, ok := c.byName[name]; !ok {
			return false
		}
	}
	return true
}

// anchors returns the names that f's anchor stands for in this checkpoint: it
// is stored, or all of its partners are in its stead.
func (c *Checkpoint) anchors(f family) []string {
	suffix, any := strings.CutPrefix(f.anchor, "*")
	if !any {
		if c.has(f.anchor) || c.has(f.always...) && len(f.always) > 0 {
			return []string{f.anchor}
		}
		if tie, set := c.Config.TieWordEmbeddings(); tie && set && f.anchor == "model.embed_tokens.weight" && c.onlyHead() {
			return []string{f.anchor}
		}
		return nil
	}
	var found []string
	for _, t := range c.tensors {
		if module, ok := strings.CutSuffix(t.Name, suffix); ok && module != "" && !strings.Contains(module, ".") {
			found = append(found, t.Name)
		}
	}
	return found
}

// onlyHead reports whether the checkpoint stores its tied embedding under the
// head's name.
func (c *Checkpoint) onlyHead() bool {
	return c.has("lm_head.weight") && !slices.ContainsFunc(families, func(f family) bool {
		return slices.Contains(f.head, "lm_head.weight") && c.has(f.anchor)
	})
}

// hasModule reports whether the module of a shared name is there, so that the
// name is too, stored or not: a stack with its own embedding, a head with a
// decoder below it.
func (c *Checkpoint) hasModule(name string) bool {
	stem, ok := strings.CutSuffix(name, "embed_tokens.weight")
	if !ok {
		if stem, ok = strings.CutSuffix(name, "decoder.bias"); !ok {
			return false
		}
		return slices.ContainsFunc(c.tensors, func(t Info) bool {
			return strings.HasPrefix(t.Name, stem) && t.Name != stem+"bias" && t.Name != stem+"weight"
		})
	}
	return slices.ContainsFunc(c.tensors, func(t Info) bool { return strings.HasPrefix(t.Name, stem) })
}

// heads returns the names of f's heads that may go with anchor.
func (c *Checkpoint) heads(f family, anchor string) []string {
	if len(f.head) < 2 {
		return f.head
	}
	for _, name := range f.head {
		if c.has(name) {
			return []string{name}
		}
	}
	module, _, _ := strings.Cut(anchor, ".")
	if name, ok := headOf[module]; ok {
		return []string{name}
	}
	if slices.Contains(f.head, "proj_out.weight") && c.Config.ModelType() == "whisper" {
		return []string{"proj_out.weight"}
	}
	return f.head[:1]
}

// tiesHead reports whether a head shares the weight of anchor. An explicit
// tie_word_embeddings decides; without one a head that is not stored is tied,
// as transformers 4 has it by default. A head that the model class does not
// have is in no group.
func (c *Checkpoint) tiesHead(anchor, head string) bool {
	a, stored := c.Lookup(anchor)
	h, both := c.Lookup(head)
	both = both && stored
	if both && !slices.Equal(a.Shape, h.Shape) {
		return false
	}
	tie, set := c.tie(anchor)
	if set && !tie || !set && both {
		return false
	}
	archs := c.Config.Architectures()
	return c.has(head) || len(archs) == 0 || slices.ContainsFunc(archs, func(a string) bool {
		return slices.ContainsFunc(withHead, func(w string) bool { return strings.Contains(a, w) })
	})
}

// tie returns tie_word_embeddings of the part of the model that holds anchor.
func (c *Checkpoint) tie(anchor string) (tie, set bool) {
	first, _, _ := strings.Cut(anchor, ".")
	if part := c.Config.Nested(first); part.Raw.Members != nil {
		if tie, set := part.TieWordEmbeddings(); set {
			return tie, set
		}
	}
	return c.Config.TieWordEmbeddings()
}

// Tied returns the groups of names that stand for one weight in this
// checkpoint, whether all of them are stored or not; the first of each is
// where transformers keeps it. The caller must not change it.
func (c *Checkpoint) Tied() [][]string { return c.tied }

// Resolve returns the entry that holds a tensor: its own, or that of a name
// that it is tied to.
func (c *Checkpoint) Resolve(name string) (Info, bool) {
	if t, ok := c.Lookup(name); ok {
		return t, true
	}
	for _, group := range c.tied {
		if !slices.Contains(group, name) {
			continue
		}
		for _, partner := range group {
			if t, ok := c.Lookup(partner); ok {
				return t, true
			}
		}
	}
	return Info{}, false
}
