package eval

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"smelt/internal/vfs"
)

// maxFiles bounds an image folder.
const maxFiles = 10_000_000

var imageEndings = []string{".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp"}

// folder reads a folder with one folder of images a class. In the order of
// their names these are the labels 0, 1, …; where all of their names are
// classes of the task, they are those.
func (im *Images) folder(fsys vfs.FS, dir string) error {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return err
	}
	var classes []string
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			classes = append(classes, e.Name())
		}
	}
	if len(classes) == 0 {
		return fmt.Errorf("%s: is no image folder: it holds no folder for a class", dir)
	}
	label := func(i int) int { return i }
	switch {
	case len(im.Classes) == 0:
		im.Classes = classes
	case !slices.ContainsFunc(classes, func(c string) bool { return !slices.Contains(im.Classes, c) }):
		label = func(i int) int { return slices.Index(im.Classes, classes[i]) }
	case len(classes) != len(im.Classes):
		return fmt.Errorf("%s: %d folders for %d classes, and their names are not the classes'", dir, len(classes), len(im.Classes))
	}
	var files []string
	hash := sha256.New()
	for i, class := range classes {
		entries, err := fsys.ReadDir(filepath.Join(dir, class))
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.IsDir() || !slices.Contains(imageEndings, strings.ToLower(filepath.Ext(e.Name()))) {
				continue
			}
			if len(files) == maxFiles {
				return fmt.Errorf("%s: more than %d images", dir, maxFiles)
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			files = append(files, filepath.Join(dir, class, e.Name()))
			im.Truths = append(im.Truths, Truth{Class: label(i)})
			fmt.Fprintf(hash, "%d %q %d %d\n", label(i), class+"/"+e.Name(), info.Size(), info.ModTime().UnixNano())
		}
	}
	if len(files) == 0 {
		return fmt.Errorf("%s: the folder is empty: no PNG, JPEG, GIF, WebP or BMP in its %d folders", dir, len(classes))
	}
	im.Key = hex.EncodeToString(hash.Sum(nil))
	im.read = func(i int) (picture, error) {
		img, err := readImage(fsys, files[i])
		return picture{decoded: img}, err
	}
	return nil
}

// rowEndings are the kinds of data files with rows.
var rowEndings = []string{".parquet", ".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz"}

func hasRows(path string) bool {
	return slices.ContainsFunc(rowEndings, func(e string) bool { return strings.HasSuffix(strings.ToLower(path), e) })
}

// find returns the files that a task's data names, or the folder of images
// that it is. A folder as the hub has them holds shards named after their
// split, as in data/test-00000-of-00001.parquet or test.jsonl.
func (f *File) find(fsys vfs.FS, t *Task) (paths []string, folder string, err error) {
	for _, p := range t.Data.Paths {
		path := f.path(p)
		if strings.ContainsAny(p, "*?[") {
			found, err := glob(fsys, path)
			if err != nil {
				return nil, "", err
			}
			paths = append(paths, found...)
			continue
		}
		info, err := fsys.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, "", fmt.Errorf("data %s does not exist", path)
		case err != nil:
			return nil, "", err
		case !info.IsDir():
			paths = append(paths, path)
			continue
		}
		found, err := splits(fsys, path, t.Data.Split)
		if err != nil {
			return nil, "", err
		}
		if len(found) == 0 && len(t.Data.Paths) == 1 && t.Type == ImageClassification {
			if sub := filepath.Join(path, t.split()); isDir(fsys, sub) {
				path = sub
			} else if t.Data.Split != "" {
				return nil, "", fmt.Errorf("%s: has no split %q", path, t.Data.Split)
			}
			return nil, path, nil
		}
		if len(found) == 0 {
			return nil, "", fmt.Errorf("%s: has no files of the split %q, such as data/%s-00000-of-00001.parquet or %s.jsonl", path, t.split(), t.split(), t.split())
		}
		paths = append(paths, found...)
	}
	for _, p := range paths {
		if !hasRows(p) {
			return nil, "", fmt.Errorf("%s: unknown kind of data: want %s, or a folder", p, strings.Join(rowEndings, ", "))
		}
	}
	return paths, "", nil
}

func (t *Task) split() string {
	if t.Data.Split == "" {
		return "test"
	}
	return t.Data.Split
}

func isDir(fsys vfs.FS, path string) bool {
	info, err := fsys.Stat(path)
	return err == nil && info.IsDir()
}

// glob matches a pattern in the last part of a path.
func glob(fsys vfs.FS, path string) ([]string, error) {
	dir, pattern := filepath.Split(path)
	entries, err := fsys.ReadDir(filepath.Clean(dir))
	if err != nil {
		return nil, err
	}
	var found []string
	for _, e := range entries {
		ok, err := filepath.Match(pattern, e.Name())
		if err != nil {
			return nil, fmt.Errorf("pattern %s: %w", path, err)
		}
		if ok {
			found = append(found, filepath.Join(dir, e.Name()))
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no file matches %s", path)
	}
	return found, nil
}

// splits lists the files of a split in a folder as the hub has them.
func splits(fsys vfs.FS, dir, split string) ([]string, error) {
	if split == "" {
		split = "test"
	}
	var found []string
	for _, sub := range []string{dir, filepath.Join(dir, "data"), filepath.Join(dir, split)} {
		entries, err := fsys.ReadDir(sub)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		for _, e := range entries {
			rest, named := strings.CutPrefix(e.Name(), split)
			named = named && (rest != "" && (rest[0] == '-' || rest[0] == '.'))
			if !e.IsDir() && hasRows(e.Name()) && (named || sub == filepath.Join(dir, split)) {
				found = append(found, filepath.Join(sub, e.Name()))
			}
		}
		if len(found) > 0 {
			break
		}
	}
	return found, nil
}
