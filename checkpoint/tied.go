package checkpoint

import "slices"

// tiedFamilies lists names that stand for one weight where a model ties its
// embeddings; the first of each is where transformers keeps it.
var tiedFamilies = [][]string{
	{"model.embed_tokens.weight", "lm_head.weight"},
	{"shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"},
	{"model.shared.weight", "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight"},
	{"model.decoder.embed_tokens.weight", "lm_head.weight"},
	{"model.decoder.embed_tokens.weight", "proj_out.weight"},
	{"transformer.wte.weight", "lm_head.weight"},
	{"bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"},
}

// tiedGroups returns the families of which a checkpoint stores some names.
func tiedGroups(c *Checkpoint) [][]string {
	var groups [][]string
	for _, family := range tiedFamilies {
		if slices.ContainsFunc(family[:1], func(n string) bool { _, ok := c.byName[n]; return ok }) {
			groups = append(groups, family)
		}
	}
	return groups
}

// Tied returns the groups of names that stand for one weight in this
// checkpoint, whether all of them are stored or not.
func (c *Checkpoint) Tied() [][]string { return c.tied }

// Resolve returns the entry that holds a tensor: its own, or that of the name
// it is tied to.
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
