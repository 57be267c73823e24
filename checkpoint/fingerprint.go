package checkpoint

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"path/filepath"

	"smelt/internal/vfs"
)

// Fingerprint identifies the checkpoint's content as far as it shows without
// reading the weights: the config, the headers of all shards, and names, sizes
// and modification times of the shards and the files to carry over. What is
// resumed is keyed by it. It does not depend on where the directory lies.
func (c *Checkpoint) Fingerprint() (string, error) {
	extras, err := c.Extras()
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintf(h, "config %d\n", len(c.Config.Text))
	h.Write(c.Config.Text)
	for i, name := range c.names {
		if err := stamp(h, c.fs, c.Dir, name); err != nil {
			return "", err
		}
		h.Write(c.files[i].Header())
	}
	for _, name := range append(extras.Files, extras.Code...) {
		if err := stamp(h, c.fs, c.Dir, filepath.FromSlash(name)); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Fingerprint identifies the adapter as Checkpoint.Fingerprint does.
func (a *Adapter) Fingerprint() (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "config %d\n", len(a.Config.Text))
	h.Write(a.Config.Text)
	if err := stamp(h, a.fs, a.Dir, adapterWeights); err != nil {
		return "", err
	}
	h.Write(a.file.Header())
	return hex.EncodeToString(h.Sum(nil)), nil
}

// stamp writes a file's name, size and modification time into h.
func stamp(h io.Writer, fsys vfs.FS, dir, name string) error {
	info, err := fsys.Stat(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(h, "file %q %d %d\n", filepath.ToSlash(name), info.Size(), info.ModTime().UnixNano())
	return err
}
