package engine

import (
	"errors"
	"fmt"
	"path/filepath"

	"smelt/analysis"
	"smelt/internal/vfs"
)

// WriteAnalysis writes a report's files and those of further, its plots and its
// page, into the directory out, which must not exist: it exists whole or not at
// all.
func WriteAnalysis(fsys vfs.FS, r *analysis.Report, further []analysis.File, out string) (err error) {
	files, err := r.Files()
	if err != nil {
		return err
	}
	work := workFolder(out) + "-analysis" // not that of a fusion which may be resumed
	if err := CheckAnalysis(fsys, out); err != nil {
		return err
	}
	// An analysis does not resume: what a killed run left is of no use.
	if err := errors.Join(fsys.RemoveAll(work), fsys.Mkdir(work)); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, fsys.RemoveAll(work))
		}
	}()
	for _, f := range append(files, further...) {
		if err := write(fsys, work, namedFile{f.Name, f.Data}); err != nil {
			return err
		}
	}
	return vfs.Commit(fsys, work, out)
}

// ScratchFolder is where an analysis of tasks that is to make out keeps models
// on the way.
func ScratchFolder(out string) string { return workFolder(out) + "-tasks" }

// CheckAnalysis says before any work whether out can be made.
func CheckAnalysis(fsys vfs.FS, out string) error {
	parent := filepath.Dir(filepath.Clean(out))
	if info, err := fsys.Stat(parent); err != nil || !info.IsDir() {
		return fmt.Errorf("%s: the folder %s does not exist: make it first", out, parent)
	}
	if exists(fsys, out) {
		return fmt.Errorf("%s: exists already: remove it, or choose another output", out)
	}
	return nil
}
