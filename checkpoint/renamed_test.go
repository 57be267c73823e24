package checkpoint

import "testing"

// TestInMemory holds the renamings against names of transformers 5.23 (the
// keys of ViTModel's and Dinov2Model's state dicts), both ways.
func TestInMemory(t *testing.T) {
	for _, c := range []struct{ kind, file, memory string }{
		{"vit", "vit.encoder.layer.11.attention.attention.query", "vit.layers.11.attention.q_proj"},
		{"vit", "encoder.layer.0.attention.output.dense", "layers.0.attention.o_proj"},
		{"deit", "deit.encoder.layer.3.intermediate.dense", "deit.layers.3.mlp.fc1"},
		{"beit", "beit.encoder.layer.3.output.dense", "beit.layers.3.mlp.fc2"},
		{"vit", "vit.pooler.dense", "vit.pooler.dense"},
		{"vit", "classifier", "classifier"},
		{"dinov2", "encoder.layer.7.attention.attention.value", "encoder.layer.7.attention.v_proj"},
		{"dinov2", "encoder.layer.7.mlp.fc1", "encoder.layer.7.mlp.fc1"},
		{"bert", "bert.encoder.layer.0.attention.output.dense", "bert.encoder.layer.0.attention.output.dense"},
		{"llama", "model.layers.0.mlp.fc1", "model.layers.0.mlp.fc1"},
	} {
		config, err := ParseConfig([]byte(`{"model_type":"` + c.kind + `"}`))
		if err != nil {
			t.Fatal(err)
		}
		if got := config.InMemory(c.file); got != c.memory {
			t.Errorf("%s: %s is %s in memory, want %s", c.kind, c.file, got, c.memory)
		}
		if got := config.inFile(c.memory); got != c.file {
			t.Errorf("%s: %s is %s in the file, want %s", c.kind, c.memory, got, c.file)
		}
		if got := config.inFile(c.file); got != c.file {
			t.Errorf("%s: %s became %s", c.kind, c.file, got)
		}
	}
}
