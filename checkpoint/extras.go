package checkpoint

import (
	"errors"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"smelt/internal/ojson"
	"smelt/internal/vfs"
)

// Extras are the files of a checkpoint beside config and weights that a model
// made from it needs.
type Extras struct {
	Files []string // relative to Dir, with slashes, sorted: tokenizer, processor, generation, licence
	Code  []string // *.py where a config's auto_map asks for remote code: never carried over silently
}

// extraFiles are the patterns (path.Match) of the files to carry over.
var extraFiles = []string{
	"tokenizer*.json", "tokenizer*.model*", "vocab*", "merges.txt", "bpe.codes", "spiece.model", "sentencepiece*",
	"*.model", "*.tiktoken", "*.spm", "special_tokens_map.json", "added_tokens.json", "normalizer.json",
	"preprocessor_config.json", "processor_config.json", "image_processor*.json", "feature_extractor*.json",
	"video_preprocessor_config.json", "audio_tokenizer_config.json",
	"generation_config.json", "chat_template.json", "chat_template.jinja",
	"LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*",
}

// templateDir holds further chat templates, *.jinja.
const templateDir = "additional_chat_templates"

// Extras returns the files to carry over. It fails where one of them is a
// symbolic link that leaves the directory.
func (c *Checkpoint) Extras() (Extras, error) {
	var x Extras
	entries, err := c.fs.ReadDir(c.Dir)
	if err != nil {
		return x, err
	}
	var code []string
	for _, e := range entries {
		name := e.Name()
		switch {
		case name == templateDir && e.IsDir():
			if err := c.templates(&x); err != nil {
				return x, err
			}
		case e.IsDir() || strings.HasPrefix(name, "."):
		case strings.HasSuffix(name, ".py"):
			code = append(code, name)
		case matchesAny(extraFiles, name):
			if err := contained(c.fs, c.Dir, name); err != nil {
				return x, err
			}
			x.Files = append(x.Files, name)
		}
	}
	slices.Sort(x.Files)
	if len(code) > 0 && c.remoteCode(x.Files) {
		x.Code = code
	}
	return x, nil
}

func (c *Checkpoint) templates(x *Extras) error {
	entries, err := c.fs.ReadDir(filepath.Join(c.Dir, templateDir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Type().IsRegular() && strings.HasSuffix(e.Name(), ".jinja") {
			x.Files = append(x.Files, path.Join(templateDir, e.Name()))
		}
	}
	return nil
}

// remoteCode reports whether the config, or one of the small configs among
// files, names Python classes of its own.
func (c *Checkpoint) remoteCode(files []string) bool {
	if m, ok := c.Config.Raw.Get("auto_map"); ok && m.Kind == ojson.Object {
		return true
	}
	for _, name := range files {
		if !strings.HasSuffix(name, "_config.json") {
			continue
		}
		cfg, err := readConfig(c.fs, c.Dir, name)
		if err != nil {
			continue // whoever reads that file will say what is wrong with it
		}
		if _, ok := cfg.Raw.Get("auto_map"); ok {
			return true
		}
	}
	return false
}

func matchesAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, _ := path.Match(p, name)
		return ok
	})
}

// notFound reports whether a file is missing, as opposed to unreadable.
func notFound(fsys vfs.FS, name string) bool {
	_, err := fsys.Stat(name)
	return errors.Is(err, fs.ErrNotExist)
}
