package engine

import (
	"context"
	"path/filepath"
	"slices"
	"testing"

	"smelt/generate"
	"smelt/internal/vfs"
	"smelt/model/modeltest"
	"smelt/nn"
)

// Prompts that a fused model continues side by side get the tokens that they
// get alone, and take the same experts.
func TestFusedTogether(t *testing.T) {
	for _, name := range []string{"t5", "llama", "mistral", "qwen2"} {
		dir := filepath.Join("testdata", "models", name)
		m, err := OpenModel(vfs.OS, dir)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		c := modeltest.ReadCase(t, dir)
		var prompts [][]int
		for i := range 7 {
			ids := c.IDs[i%len(c.IDs)]
			prompts = append(prompts, ids[:1+i*3%len(ids)])
		}
		for _, o := range []generate.Options{{MaxNewTokens: 24}, {MaxNewTokens: 24, Sample: true, Seed: 3, TopK: 20}} {
			run := func(width int) ([]generate.Result, *watch) {
				w := newWatch(m.Fused.ExpertNames(), len(prompts))
				p := &nn.Pass{OnRouting: w.see}
				results, err := m.decode(context.Background(), p, decoding{
					n: len(prompts), width: width, options: o, rows: w.pass,
					encode: func(i int) ([]int, error) { return prompts[i], nil },
				})
				if err != nil {
					t.Fatal(err)
				}
				return results, w
			}
			want, alone := run(1)
			for _, width := range []int{3, MaxTogether} {
				got, beside := run(width)
				for i := range want {
					if len(want[i].IDs) != 24 || !slices.Equal(got[i].IDs, want[i].IDs) {
						t.Errorf("%s, %d together: prompt %d is continued by %v, alone by %v", name, width, i, got[i].IDs, want[i].IDs)
					}
					if !slices.Equal(beside.took[i], alone.took[i]) {
						t.Errorf("%s, %d together: prompt %d took experts %v, alone %v", name, width, i, beside.took[i], alone.took[i])
					}
				}
			}
		}
	}
}
