package cli_test

import (
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

// TestScripts runs the transcripts in testdata/script. Each finds the pool in
// its working directory: base, and experts/algebra, botany, chess and dance.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			return os.CopyFS(env.WorkDir, os.DirFS(filepath.FromSlash(fixture)))
		},
	})
}
