package cli_test

import (
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"slices"
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

// causal is the bundled pool of a mini Qwen2 with a real tokenizer.
const causal = "../../examples/pools/causal"

// TestScripts runs the transcripts in testdata/script. Each finds the pool in
// its working directory: base, and experts/algebra, botany, chess and dance. The
// bundled pools are $VISION, with picture.png a picture of its kind, and $CAUSAL.
// broken.png is cut off, bomb.png says that it has 60,000 × 60,000 pixels.
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
			causal, err := filepath.Abs(filepath.FromSlash(causal))
			if err != nil {
				return err
			}
			env.Setenv("CAUSAL", causal)
			picture, err := os.Create(filepath.Join(env.WorkDir, "picture.png"))
			if err != nil {
				return err
			}
			defer picture.Close()
			if err := png.Encode(picture, image.NewRGBA(image.Rect(0, 0, 40, 32))); err != nil {
				return err
			}
			if err := badImages(env.WorkDir); err != nil {
				return err
			}
			return os.CopyFS(env.WorkDir, os.DirFS(filepath.FromSlash(fixture)))
		},
	})
}

// badImages writes broken.png and bomb.png.
func badImages(dir string) error {
	whole, err := os.ReadFile(filepath.Join(dir, "picture.png"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "broken.png"), whole[:len(whole)-30], 0o666); err != nil {
		return err
	}
	bomb := slices.Clone(whole)
	header := bomb[12:29] // IHDR and its 13 bytes, their checksum behind
	binary.BigEndian.PutUint32(header[4:], 60000)
	binary.BigEndian.PutUint32(header[8:], 60000)
	binary.BigEndian.PutUint32(bomb[29:], crc32.ChecksumIEEE(header))
	return os.WriteFile(filepath.Join(dir, "bomb.png"), bomb, 0o666)
}
