package cli_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestKill runs real fusions and kills them with SIGKILL at random moments,
// again and again, until one gets through: then the output is the one that an
// undisturbed run makes, and nothing else is left.
func TestKill(t *testing.T) {
	smelt := filepath.Join(t.TempDir(), "smelt")
	if out, err := exec.Command("go", "build", "-o", smelt, "smelt/cmd/smelt").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.FromSlash(fixture))); err != nil {
		t.Fatal(err)
	}
	fuse := func(out string) *exec.Cmd {
		cmd := exec.Command(smelt, "fuse", "base", "experts/algebra", "experts/botany", "experts/chess", "experts/dance",
			"-o", out, "--energy", "0.9", "--router-rank", "2")
		cmd.Dir = dir
		return cmd
	}
	start := time.Now()
	if out, err := fuse("want").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	took := time.Since(start)
	r := rand.New(rand.NewPCG(1, 2))
	killed := 0
	for round := range 12 {
		for {
			cmd := fuse("out")
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			timer := time.AfterFunc(time.Duration(r.Float64()*1.3*float64(took)), func() { cmd.Process.Kill() })
			err := cmd.Wait()
			timer.Stop()
			if err == nil {
				break
			}
			if strings.Contains(stderr.String(), "out: exists already") {
				break // the run before was killed when all was done but its exit
			}
			if cmd.ProcessState.ExitCode() != -1 {
				t.Fatalf("round %d: %v: %s", round, err, stderr.String())
			}
			killed++
		}
		same(t, filepath.Join(dir, "out"), filepath.Join(dir, "want"))
		if err := os.RemoveAll(filepath.Join(dir, "out")); err != nil {
			t.Fatal(err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
			t.Fatalf("round %d: left behind: %v", round, left)
		}
	}
	t.Logf("killed %d runs of about %v", killed, took)
	if killed == 0 {
		t.Error("no run was killed: the test shows nothing")
	}
}

// same fails where two directories differ.
func same(t *testing.T, got, want string) {
	t.Helper()
	entries, err := os.ReadDir(want)
	if err != nil {
		t.Fatal(err)
	}
	if have, err := os.ReadDir(got); err != nil || len(have) != len(entries) {
		t.Fatalf("%d files, want %d: %v", len(have), len(entries), err)
	}
	for _, e := range entries {
		a, err := os.ReadFile(filepath.Join(got, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(want, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("file %s differs", e.Name())
		}
	}
}
