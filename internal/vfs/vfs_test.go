package vfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"smelt/internal/vfs"
)

// each runs a test on the real file system and on the one in memory.
func each(t *testing.T, test func(t *testing.T, fsys vfs.FS, dir string)) {
	t.Run("os", func(t *testing.T) { test(t, vfs.OS, t.TempDir()) })
	t.Run("mem", func(t *testing.T) {
		m := vfs.NewMem()
		if err := m.MkdirAll("/tmp/x"); err != nil {
			t.Fatal(err)
		}
		test(t, m, "/tmp/x")
	})
	t.Run("fault", func(t *testing.T) {
		test(t, vfs.Fault(vfs.OS, func(vfs.Event) error { return nil }), t.TempDir())
	})
}

func read(t *testing.T, fsys vfs.FS, name string) string {
	t.Helper()
	b, err := vfs.ReadFile(fsys, name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func write(t *testing.T, fsys vfs.FS, name, text string) {
	t.Helper()
	if err := vfs.WriteFile(fsys, name, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func TestFiles(t *testing.T) {
	each(t, func(t *testing.T, fsys vfs.FS, dir string) {
		name := filepath.Join(dir, "f")
		f, err := fsys.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range []func() (int, error){
			func() (int, error) { return f.Write([]byte("hello ")) },
			func() (int, error) { return f.Write([]byte("world")) },
			func() (int, error) { return f.WriteAt([]byte("J"), 0) },
			func() (int, error) { return f.WriteAt([]byte("!"), 12) }, // leaves a hole
		} {
			if _, err := step(); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := f.Size(); n != 13 || err != nil {
			t.Errorf("size %d, %v", n, err)
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			t.Fatal(err)
		}
		if got := read(t, fsys, name); got != "Jello world\x00!" {
			t.Errorf("content %q", got)
		}
		if f, err = fsys.OpenWrite(name); err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(5); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte("C")); err != nil { // from offset 0
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		r, err := fsys.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 8)
		if n, err := r.ReadAt(buf, 1); n != 4 || !errors.Is(err, io.EOF) || string(buf[:n]) != "ello" {
			t.Errorf("ReadAt %d, %v, %q", n, err, buf)
		}
		if _, err := r.Write([]byte("x")); err == nil {
			t.Error("wrote to a file opened for reading")
		}
		m, err := r.Map()
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if string(m.Bytes()) != "Cello" {
			t.Errorf("mapped %q", m.Bytes())
		}
		for _, off := range []int64{-1, 0, 4, 5, 1 << 62} {
			m.Prefetch(off, 1<<62)
			m.Release(off, 3)
			m.Release(off, 1<<62)
		}
		if string(m.Bytes()) != "Cello" {
			t.Errorf("after Release: %q", m.Bytes())
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if _, err := vfs.ReadFile(fsys, name, 4); err == nil || !strings.Contains(err.Error(), "at most 4") {
			t.Errorf("ReadFile beyond its limit: %v", err)
		}
	})
}

func TestEmptyFileMaps(t *testing.T) {
	each(t, func(t *testing.T, fsys vfs.FS, dir string) {
		name := filepath.Join(dir, "empty")
		write(t, fsys, name, "")
		f, err := fsys.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		m, err := f.Map()
		if err != nil || len(m.Bytes()) != 0 {
			t.Fatal(m, err)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestDirectories(t *testing.T) {
	each(t, func(t *testing.T, fsys vfs.FS, dir string) {
		in := func(n string) string { return filepath.Join(dir, n) }
		ok := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		is := func(err, want error) {
			t.Helper()
			if !errors.Is(err, want) {
				t.Fatalf("error %v, want %v", err, want)
			}
		}
		ok(fsys.Mkdir(in("d")))
		is(fsys.Mkdir(in("d")), fs.ErrExist)
		is(fsys.Mkdir(in("no/d")), fs.ErrNotExist)
		ok(fsys.MkdirAll(in("d/e/f")))
		ok(fsys.MkdirAll(in("d/e/f")))
		write(t, fsys, in("d/b"), "b")
		write(t, fsys, in("d/a"), "a")
		entries, err := fsys.ReadDir(in("d"))
		ok(err)
		got := ""
		for _, e := range entries {
			got += fmt.Sprint(e.Name(), e.IsDir(), " ")
		}
		if got != "afalse bfalse etrue " {
			t.Errorf("entries %s", got)
		}
		_, err = fsys.Stat(in("d/none"))
		is(err, fs.ErrNotExist)
		_, err = fsys.Open(in("d/none"))
		is(err, fs.ErrNotExist)
		if info, err := fsys.Stat(in("d/a")); err != nil || info.Size() != 1 || !info.Mode().IsRegular() {
			t.Error(info, err)
		}
		ok(fsys.Rename(in("d/a"), in("d/b"))) // replaces
		if read(t, fsys, in("d/b")) != "a" {
			t.Error("rename did not replace")
		}
		write(t, fsys, in("d/c"), "c")
		is(fsys.RenameNew(in("d/c"), in("d/b")), fs.ErrExist)
		is(fsys.RenameNew(in("d/e"), in("d/b")), fs.ErrExist)
		ok(fsys.RenameNew(in("d/c"), in("d/g")))
		is(fsys.Rename(in("d/none"), in("d/h")), fs.ErrNotExist)
		if fsys.Rename(in("d"), in("d/e/x")) == nil {
			t.Error("moved a directory into itself")
		}
		if fsys.Remove(in("d")) == nil {
			t.Error("removed a directory that is not empty")
		}
		ok(fsys.Remove(in("d/g")))
		is(fsys.Remove(in("d/g")), fs.ErrNotExist)
		ok(fsys.SyncDir(in("d")))
		ok(fsys.RemoveAll(in("d")))
		ok(fsys.RemoveAll(in("d")))
		_, err = fsys.Stat(in("d"))
		is(err, fs.ErrNotExist)
		if real, err := fsys.EvalSymlinks(dir); err != nil || real == "" {
			t.Error(real, err)
		}
	})
}

func TestLock(t *testing.T) {
	each(t, func(t *testing.T, fsys vfs.FS, dir string) {
		name := filepath.Join(dir, "lock")
		l, err := fsys.Lock(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fsys.Lock(name); !errors.Is(err, vfs.ErrLocked) {
			t.Errorf("second lock: %v", err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l, err = fsys.Lock(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestCrashCloneKeepsWhatWasSynced(t *testing.T) {
	m := vfs.NewMem()
	if err := errors.Join(m.MkdirAll("/a"), m.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	write(t, m, "/a/listed", "1")
	if err := m.SyncDir("/a"); err != nil {
		t.Fatal(err)
	}
	write(t, m, "/a/unlisted", "2") // synced, but its entry is not
	f, err := m.OpenWrite("/a/listed")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("changed")); err != nil {
		t.Fatal(err)
	}
	c := m.CrashClone()
	if got := read(t, c, "/a/listed"); got != "1" {
		t.Errorf("listed holds %q", got)
	}
	if _, err := c.Stat("/a/unlisted"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("unlisted: %v", err)
	}
	if got := read(t, m, "/a/listed"); got != "changed" {
		t.Errorf("the original holds %q", got)
	}
	// A rename is durable with its directory.
	if err := m.Rename("/a/unlisted", "/a/new"); err != nil {
		t.Fatal(err)
	}
	if _, err := m.CrashClone().Stat("/a/new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("new: %v", err)
	}
	if err := m.SyncDir("/a"); err != nil {
		t.Fatal(err)
	}
	if got := read(t, m.CrashClone(), "/a/new"); got != "2" {
		t.Errorf("new holds %q", got)
	}
	seen := map[string]bool{}
	for seed := range uint64(64) {
		seen[read(t, m.CrashCloneRandom(seed), "/a/listed")] = true
	}
	if !seen["1"] || !seen["changed"] {
		t.Errorf("random clones saw %v", seen)
	}
}

// prepare makes what a commit starts from.
func prepare(t *testing.T, m vfs.FS) {
	t.Helper()
	if err := errors.Join(m.MkdirAll("/out/tmp/sub"), m.SyncDir("/"), m.SyncDir("/out")); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"a", "b", "sub/c"} {
		f, err := m.Create("/out/tmp/" + n)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(bytes.Repeat([]byte(n), 100)); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil { // not synced: that is Commit's work
			t.Fatal(err)
		}
	}
}

func whole(t *testing.T, m vfs.FS, step int) {
	t.Helper()
	if _, err := m.Stat("/out/final"); errors.Is(err, fs.ErrNotExist) {
		return
	}
	for _, n := range []string{"a", "b", "sub/c"} {
		if got := read(t, m, "/out/final/"+n); got != strings.Repeat(n, 100) {
			t.Fatalf("crash at step %d: final/%s holds %d bytes", step, n, len(got))
		}
	}
}

func TestCommitAtEveryCrash(t *testing.T) {
	steps := 0
	for at := 0; ; at++ {
		m := vfs.NewMem()
		prepare(t, m)
		steps = 0
		err := vfs.Commit(vfs.Fault(m, func(e vfs.Event) error {
			steps++
			if e.Seq == at {
				return vfs.ErrCrash
			}
			return nil
		}), "/out/tmp", "/out/final")
		whole(t, m, at)
		whole(t, m.CrashClone(), at)
		for seed := range uint64(50) {
			whole(t, m.CrashCloneRandom(seed), at)
		}
		if err == nil {
			if at < 10 {
				t.Fatalf("committed in %d steps", steps)
			}
			if _, err := m.CrashClone().Stat("/out/final"); err != nil {
				t.Errorf("committed, but not durable: %v", err)
			}
			return
		}
		if !errors.Is(err, vfs.ErrCrash) {
			t.Fatal(err)
		}
	}
}

func TestCommitRefusesAnExistingTarget(t *testing.T) {
	each(t, func(t *testing.T, fsys vfs.FS, dir string) {
		tmp, final := filepath.Join(dir, "tmp"), filepath.Join(dir, "final")
		if err := errors.Join(fsys.Mkdir(tmp), fsys.Mkdir(final)); err != nil {
			t.Fatal(err)
		}
		write(t, fsys, filepath.Join(tmp, "f"), "x")
		if err := vfs.Commit(fsys, tmp, final); !errors.Is(err, fs.ErrExist) {
			t.Fatalf("error %v", err)
		}
		if err := fsys.Remove(final); err != nil {
			t.Fatal(err)
		}
		if err := vfs.Commit(fsys, tmp, final); err != nil {
			t.Fatal(err)
		}
		if read(t, fsys, filepath.Join(final, "f")) != "x" {
			t.Error("content")
		}
	})
}

func TestFault(t *testing.T) {
	full := errors.New("no space left on device")
	m := vfs.NewMem()
	var events []vfs.Event
	fsys := vfs.Fault(m, func(e vfs.Event) error {
		events = append(events, e)
		switch {
		case e.Op == vfs.OpWrite && e.Path == "/f":
			return full
		case e.Op == vfs.OpMkdir:
			return vfs.ErrCrash
		}
		return nil
	})
	f, err := fsys.Create("/f")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := f.Write([]byte("abcd")); n != 2 || !errors.Is(err, full) {
		t.Errorf("write %d, %v", n, err)
	}
	if err := f.Sync(); err != nil {
		t.Error(err)
	}
	if err := fsys.Mkdir("/d"); !errors.Is(err, vfs.ErrCrash) {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"sync": f.Sync(), "truncate": f.Truncate(0), "rename": fsys.Rename("/f", "/g"),
		"renamenew": fsys.RenameNew("/f", "/g"), "remove": fsys.Remove("/f"),
	} {
		if !errors.Is(err, vfs.ErrCrash) {
			t.Errorf("%s after the crash: %v", name, err)
		}
	}
	if n, err := f.Write([]byte("zz")); n != 0 || !errors.Is(err, vfs.ErrCrash) {
		t.Errorf("write after the crash: %d, %v", n, err)
	}
	if _, err := fsys.Open("/f"); !errors.Is(err, vfs.ErrCrash) {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if got := read(t, m, "/f"); got != "ab" {
		t.Errorf("holds %q", got)
	}
	if len(events) != 4 || events[3].Seq != 3 || !events[3].Op.Changes() || vfs.OpRead.Changes() {
		t.Errorf("events %v", events)
	}
}

func TestGuardLetsOtherPanicsPass(t *testing.T) {
	defer func() {
		if recover() != "mine" {
			t.Error("the panic did not come through")
		}
	}()
	_ = vfs.Guard(func() error { panic("mine") })
}

func TestGuardPassesErrors(t *testing.T) {
	want := errors.New("x")
	if err := vfs.Guard(func() error { return want }); !errors.Is(err, want) {
		t.Error(err)
	}
}
