package cli_test

import (
	"image"
	"image/png"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"smelt/internal/cli"
)

// fixture is a tiny pool of real checkpoints: a Qwen2 base, three full
// fine-tunes and a LoRA adapter.
const fixture = "../../tools/parity/testdata/fuse"

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"smelt": func() { os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr)) },
	})
}

// vision is the bundled pool of a mini CLIP.
const vision = "../../examples/pools/vision"

// TestScripts runs the transcripts in testdata/script. Each finds the pool in
// its working directory: base, and experts/algebra, botany, chess and dance. The
// bundled vision pool is $VISION, and picture.png a picture of its kind.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			pool, err := filepath.Abs(filepath.FromSlash(vision))
			if err != nil {
				return err
			}
			env.Setenv("VISION", pool)
			picture, err := os.Create(filepath.Join(env.WorkDir, "picture.png"))
			if err != nil {
				return err
			}
			defer picture.Close()
			if err := png.Encode(picture, image.NewRGBA(image.Rect(0, 0, 40, 32))); err != nil {
				return err
			}
			return os.CopyFS(env.WorkDir, os.DirFS(filepath.FromSlash(fixture)))
		},
	})
}
