//go:build unix

package vfs_test

import (
	"os"
	"path/filepath"
	"testing"

	"smelt/internal/vfs"
)

// sink keeps the compiler from dropping reads.
var sink byte

func TestGuardCatchesATruncatedFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(name, make([]byte, 1<<20), 0o666); err != nil {
		t.Fatal(err)
	}
	f, err := vfs.OS.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := f.Map()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := os.Truncate(name, 10); err != nil {
		t.Fatal(err)
	}
	sum := func() error {
		for _, b := range m.Bytes() {
			sink += b
		}
		return nil
	}
	for range 3 { // the state is restored each time
		if err := vfs.Guard(sum); err == nil {
			t.Fatal("read a page that is gone")
		}
	}
}

func TestOpenRefusesWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	f, err := vfs.OS.Open(dir)
	if err != nil {
		return // as good
	}
	defer f.Close()
	if _, err := f.Map(); err == nil {
		t.Error("mapped a directory")
	}
	if _, err := vfs.ReadFile(vfs.OS, dir, 10); err == nil {
		t.Error("read a directory")
	}
}
