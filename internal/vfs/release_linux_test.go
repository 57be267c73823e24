package vfs_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"smelt/internal/vfs"
)

// resident returns the pages of shared files that this process holds.
func resident(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var size, rss, shared int
	if _, err := fmt.Sscan(string(text), &size, &rss, &shared); err != nil {
		t.Fatal(err)
	}
	return shared
}

func TestReleaseLetsPagesGo(t *testing.T) {
	const size = 64 << 20
	name := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(name, make([]byte, size), 0o666); err != nil {
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
	m.Prefetch(0, size)
	for i := 0; i < size; i += 1024 {
		sink += m.Bytes()[i]
	}
	full := resident(t)
	m.Release(100, size-200)
	pages := size / os.Getpagesize()
	if left := resident(t); full-left < pages*3/4 {
		t.Errorf("%d pages before, %d after releasing %d", full, left, pages)
	}
	if m.Bytes()[size/2] != 0 {
		t.Error("content lost")
	}
}

func TestDropUndoesLoad(t *testing.T) {
	const size = 64 << 20
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i >> 12)
	}
	name := filepath.Join(t.TempDir(), "f")
	if err := vfs.WriteFile(vfs.OS, name, data); err != nil {
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
	before, pages := resident(t), size/os.Getpagesize()
	if m.Load(0, size) {
		t.Error("a file that was just written is said to be on the disk alone")
	}
	if now := resident(t); now-before > pages/4 {
		t.Errorf("%d pages before, %d after loading %d that were in memory", before, now, pages)
	}
	for i := 0; i < size; i += 1024 {
		sink += m.Bytes()[i]
	}
	full := resident(t)
	m.Drop(100, size-200)
	left := resident(t)
	if full-left < pages*3/4 {
		t.Errorf("%d pages before, %d after dropping %d", full, left, pages)
	}
	// A file system in memory keeps what was dropped.
	if cold := m.Load(0, size); cold && resident(t)-left < pages*3/4 {
		t.Errorf("%d pages before, %d after loading %d from the disk", left, resident(t), pages)
	}
	m.Load(size/2, size) // beyond the end: what there is
	if !bytes.Equal(m.Bytes(), data) {
		t.Error("content lost")
	}
}
