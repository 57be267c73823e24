package engine

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"smelt/analysis"
	"smelt/internal/vfs"
)

// AnalysisOutput is a folder that an analysis makes, by one run at a time. What it
// needs on the way stands beside it until Close.
type AnalysisOutput struct {
	fs        vfs.FS
	out, work string
	lock      io.Closer
}

// OpenAnalysis says before any work whether the directory out can be made, and
// keeps other runs from making it. An analysis does not resume: what a killed run
// left is removed.
func OpenAnalysis(fsys vfs.FS, out string) (*AnalysisOutput, error) {
	out = filepath.Clean(out)
	parent := filepath.Dir(out)
	if info, err := fsys.Stat(parent); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("%s: the folder %s does not exist: make it first", out, parent)
	}
	o := &AnalysisOutput{fs: fsys, out: out, work: workFolder(out) + "-analysis"} // not that of a fusion which may be resumed
	if err := o.absent(); err != nil {
		return nil, err
	}
	if err := fsys.MkdirAll(o.work); err != nil {
		return nil, err
	}
	var err error
	o.lock, err = fsys.Lock(filepath.Join(o.work, lockName))
	if errors.Is(err, vfs.ErrLocked) || err == nil && !exists(fsys, filepath.Join(o.work, lockName)) { // removed by its holder since
		if err == nil {
			o.lock.Close()
		}
		return nil, fmt.Errorf("%s: another run is making it at this moment: wait for it, or choose another output", out)
	} else if err != nil {
		return nil, err
	}
	if err := errors.Join(o.absent(), fsys.RemoveAll(o.Scratch()), fsys.RemoveAll(o.made())); err != nil {
		return nil, errors.Join(err, o.Close())
	}
	return o, nil
}

// absent fails where the output exists.
func (o *AnalysisOutput) absent() error {
	if exists(o.fs, o.out) {
		return fmt.Errorf("%s: exists already: remove it, or choose another output", o.out)
	}
	return nil
}

// Scratch is a folder for models on the way, which does not exist.
func (o *AnalysisOutput) Scratch() string { return filepath.Join(o.work, "tasks") }

func (o *AnalysisOutput) made() string { return filepath.Join(o.work, "made") }

// Write writes a report's files and those of further, its plots and its page: the
// output exists whole or not at all.
func (o *AnalysisOutput) Write(r *analysis.Report, further []analysis.File) error {
	files, err := r.Files()
	if err != nil {
		return err
	}
	if err := o.fs.Mkdir(o.made()); err != nil {
		return err
	}
	for _, f := range append(files, further...) {
		if err := write(o.fs, o.made(), namedFile{f.Name, f.Data}); err != nil {
			return err
		}
	}
	return vfs.Commit(o.fs, o.made(), o.out)
}

// Close removes what stands beside the output and lets other runs make it.
func (o *AnalysisOutput) Close() error {
	return errors.Join(o.fs.RemoveAll(o.work), o.lock.Close())
}
