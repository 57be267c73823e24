package cli_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestEvalKill kills an evaluation with SIGKILL once it has kept something,
// and runs it again: it goes on where it was, and the result is that of an
// undisturbed run.
func TestEvalKill(t *testing.T) {
	const images = 640
	smelt := filepath.Join(t.TempDir(), "smelt")
	if out, err := exec.Command("go", "build", "-o", smelt, "smelt/cmd/smelt").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	pool, err := filepath.Abs(filepath.FromSlash(vision))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	writeNoise(t, dir, images)
	run := func(cache string) *exec.Cmd {
		cmd := exec.Command(smelt, "eval", filepath.Join(pool, "base"), "--tasks", "tasks.yaml", "--cache", cache, "--json", "--workers", "1")
		cmd.Dir = dir
		return cmd
	}
	want, _ := results(t, run("other"))
	killed := run("cache")
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if kept, _ := filepath.Glob(filepath.Join(dir, "cache", "*", "*.json")); len(kept) > 0 || time.Now().After(deadline) {
			break
		}
	}
	_ = killed.Process.Kill()
	_ = killed.Wait()
	got, cached := results(t, run("cache"))
	if cached == 0 || cached%64 != 0 || killed.ProcessState.ExitCode() == -1 && cached == images {
		t.Errorf("the second run found %d of %d answers, want some batches of 64", cached, images)
	}
	if got != want {
		t.Errorf("value %v, undisturbed %v", got, want)
	}
	if _, cached := results(t, run("cache")); cached != images {
		t.Errorf("the third run found %d of %d answers, want all", cached, images)
	}
}

// results runs an evaluation of one model and task and returns its value, with
// the routing and the interval, and how many answers were there before.
func results(t *testing.T, cmd *exec.Cmd) (value string, cached int) {
	t.Helper()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, err.(*exec.ExitError).Stderr)
	}
	var r struct {
		Rows []struct {
			Cells []struct {
				Value, Low, High float64
				N, Cached        int
			}
		}
	}
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	c := r.Rows[0].Cells[0]
	return fmt.Sprint(c.Value, c.Low, c.High, c.N), c.Cached
}

// writeNoise writes a task with random pictures and labels.
func writeNoise(t *testing.T, dir string, n int) {
	t.Helper()
	r := rand.New(rand.NewPCG(3, 4))
	idx := func(name string, limit int, shape ...uint32) {
		data := []byte{0, 0, 8, byte(len(shape))}
		size := 1
		for _, d := range shape {
			data = binary.BigEndian.AppendUint32(data, d)
			size *= int(d)
		}
		for range size {
			data = append(data, byte(r.IntN(limit)))
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	idx("images.idx", 256, uint32(n), 32, 32, 3)
	idx("labels.idx", 3, uint32(n))
	tasks := `version: 1
tasks:
- name: noise
  type: image-classification
  images: images.idx
  labels: labels.idx
  classes: [zero, one, two]
  templates: ['a printed {}']
`
	if err := os.WriteFile(filepath.Join(dir, "tasks.yaml"), []byte(tasks), 0o644); err != nil {
		t.Fatal(err)
	}
}
