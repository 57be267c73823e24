package vfs_test

import (
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
