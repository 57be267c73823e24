package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"smelt/internal/ojson"
	"smelt/internal/vfs"
)

const (
	singleFile = "model.safetensors"
	indexFile  = "model.safetensors.index.json"
)

// weights says which files of a directory hold the weights.
type weights struct {
	files []string          // sorted
	index map[string]string // tensor to file; nil without an index
	order []string          // the index's names in its order
}

// findWeights finds the weights of a model directory: model.safetensors, or
// the shards that model.safetensors.index.json lists, or the one *.safetensors
// file there is.
func findWeights(fsys vfs.FS, dir string) (weights, error) {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return weights{}, err
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	hasSingle, hasIndex := slices.Contains(names, singleFile), slices.Contains(names, indexFile)
	switch {
	case hasIndex && hasSingle:
		return weights{}, fmt.Errorf("holds both %s and %s: remove the one that is not meant", singleFile, indexFile)
	case hasIndex:
		return readIndex(fsys, dir)
	case hasSingle:
		return single(fsys, dir, singleFile)
	}
	var found []string
	for _, n := range names {
		if strings.HasSuffix(n, ".safetensors") && !strings.HasPrefix(n, ".") {
			found = append(found, n)
		}
	}
	switch {
	case len(found) == 1:
		return single(fsys, dir, found[0])
	case len(found) > 1:
		return weights{}, fmt.Errorf("%d *.safetensors files (%s) but no %s to say how they belong together",
			len(found), brief(found), indexFile)
	}
	return weights{}, noWeights(names)
}

func single(fsys vfs.FS, dir, name string) (weights, error) {
	if err := contained(fsys, dir, name); err != nil {
		return weights{}, err
	}
	return weights{files: []string{name}}, nil
}

// noWeights says why a directory has no weights that can be read, and what to
// do about it.
func noWeights(names []string) error {
	for _, n := range names {
		switch ext := filepath.Ext(n); {
		case ext == ".gguf":
			return fmt.Errorf("%s is a GGUF file, which smelt does not read: use the original safetensors checkpoint", n)
		case ext == ".bin" || ext == ".pt" || ext == ".pth" || ext == ".ckpt" || ext == ".pkl":
			return fmt.Errorf("%s is a pickle, which can run code when it is read and is refused: load the model in transformers and save it again with save_pretrained(DIR, safe_serialization=True)", n)
		case ext == ".h5" || ext == ".msgpack" || ext == ".onnx":
			return fmt.Errorf("%s is not a PyTorch checkpoint: save the model with transformers as safetensors", n)
		}
	}
	return fmt.Errorf("no weights: neither %s nor %s is there", singleFile, indexFile)
}

// readIndex reads the index of a sharded checkpoint.
func readIndex(fsys vfs.FS, dir string) (weights, error) {
	if err := contained(fsys, dir, indexFile); err != nil {
		return weights{}, err
	}
	text, err := vfs.ReadFile(fsys, filepath.Join(dir, indexFile), maxIndex)
	if err != nil {
		return weights{}, err
	}
	w, err := parseIndex(text)
	if err != nil {
		return weights{}, fmt.Errorf("%s: %w", indexFile, err)
	}
	var probs problems
	for _, name := range w.files {
		if err := contained(fsys, dir, name); errors.Is(err, fs.ErrNotExist) {
			probs.add("shard %s, which the index lists, is missing", name)
		} else if err != nil {
			probs.add("%v", err)
		}
	}
	return w, probs.err()
}

func parseIndex(text []byte) (weights, error) {
	root, err := ojson.Parse(text)
	if err != nil {
		return weights{}, err
	}
	m, ok := root.Get("weight_map")
	if !ok || m.Kind != ojson.Object || len(m.Members) == 0 {
		return weights{}, errors.New("weight_map is not an object that names tensors and their shards")
	}
	w := weights{index: make(map[string]string, len(m.Members)), order: make([]string, 0, len(m.Members))}
	seen := make(map[string]bool)
	for _, e := range m.Members {
		if e.Value.Kind != ojson.String {
			return weights{}, fmt.Errorf("weight_map: tensor %.200q has %s, want a file name", e.Name, e.Value.Kind.A())
		}
		file := e.Value.Text
		if !seen[file] {
			if err := plainName(file); err != nil {
				return weights{}, fmt.Errorf("weight_map: tensor %.200q: %w", e.Name, err)
			}
			seen[file] = true
			w.files = append(w.files, file)
			if len(w.files) > maxShards {
				return weights{}, fmt.Errorf("weight_map names more than %d files", maxShards)
			}
		}
		w.index[e.Name] = file
		w.order = append(w.order, e.Name)
	}
	slices.Sort(w.files)
	return w, nil
}

// plainName refuses a shard that is not a file directly in the directory.
func plainName(name string) error {
	switch {
	case name == "" || len(name) > 255 || strings.ContainsAny(name, "/\\:\x00") || name == "." || name == "..":
		return fmt.Errorf("file %.200q is not a plain name in the checkpoint's own directory", name)
	case !strings.HasSuffix(name, ".safetensors"):
		return fmt.Errorf("file %.200q is no safetensors file", name)
	}
	return nil
}

// contained checks that a file of the directory is where it seems to be. A
// symbolic link is followed only inside the directory itself and, in a Hugging
// Face hub cache, from snapshots/REVISION to the blobs folder beside
// snapshots, which is how that cache stores every file.
func contained(fsys vfs.FS, dir, name string) error {
	path := filepath.Join(dir, name)
	info, err := fsys.Lstat(path)
	if err != nil {
		return err
	}
	if info.Mode().IsRegular() {
		return nil
	}
	if info.Mode()&fs.ModeSymlink == 0 {
		return fmt.Errorf("%s is not a regular file", name)
	}
	real, err := fsys.EvalSymlinks(path)
	if err != nil {
		return err
	}
	root, err := fsys.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	parent := filepath.Dir(real)
	if parent == root || parent == blobs(root) {
		return nil
	}
	return fmt.Errorf("%s is a symbolic link that leaves the directory, to %s: copy the file there if it is meant", name, real)
}

// blobs returns the blobs folder that belongs to a snapshot of a hub cache,
// …/models--ORG--NAME/snapshots/REVISION, "" for any other directory.
func blobs(root string) string {
	snapshots := filepath.Dir(root)
	repo := filepath.Dir(snapshots)
	if filepath.Base(snapshots) != "snapshots" || !strings.HasPrefix(filepath.Base(repo), "models--") {
		return ""
	}
	return filepath.Join(repo, "blobs")
}

// brief lists a few names and how many there are beside.
func brief(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
