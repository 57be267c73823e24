package eval

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"smelt/internal/vfs"
)

// Cache keeps the answers of models, finished or not, in a folder: one file
// for each model and task, named by a key of all that decides the answers. A
// file that does not hold what it should counts as none. The zero Cache keeps
// nothing.
type Cache struct {
	FS  vfs.FS
	Dir string // "" keeps nothing
}

// Progress is how far a model has come with a task.
type Progress struct {
	Answers []Answer `json:"answers"` // of the first examples
	Routing *Routing `json:"routing,omitempty"`
}

// maxEntry bounds a file of the cache.
const maxEntry = 1 << 30

// Key makes a key of what decides a model's answers to a task: version, model,
// data, and the keys of the task that count.
func (t *Task) Key(model, data string) string {
	h := sha256.New()
	asked := struct {
		Type, Head, HeadTensor, Prompt, Separator string
		Classes, Templates, Choices, Stop         []string
		Names                                     map[string][]string
		MaxNewTokens, Context, Limit              int
		Text                                      string
	}{
		t.Type, t.Head, t.HeadTensor, t.Prompt, t.Separator,
		t.Classes, t.Templates, t.Choices, t.Stop, t.Names, t.MaxNewTokens, t.Context, t.Limit, t.Data.Text,
	}
	text, err := json.Marshal(asked)
	if err != nil {
		panic(err) // strings and numbers
	}
	fmt.Fprintf(h, "smelt eval %d\n%s\n%s\n%s", Version, model, data, text)
	return hex.EncodeToString(h.Sum(nil))
}

// Load returns what is kept under a key; nothing where there is nothing.
func (c Cache) Load(key string) (p Progress) {
	if c.Dir == "" {
		return p
	}
	data, err := vfs.ReadFile(c.FS, c.name(key), maxEntry)
	if err != nil {
		return p
	}
	sum, text, _ := bytes.Cut(data, []byte{'\n'})
	if want := sha256.Sum256(text); string(sum) != hex.EncodeToString(want[:]) {
		return p
	}
	if json.Unmarshal(text, &p) != nil {
		return Progress{}
	}
	return p
}

// Save replaces what is kept under a key. The file is not synced: what a power
// cut leaves of it does not bear its checksum.
func (c Cache) Save(key string, p Progress) error {
	if c.Dir == "" {
		return nil
	}
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(text)
	name := c.name(key)
	if err := c.FS.MkdirAll(filepath.Dir(name)); err != nil {
		return fmt.Errorf("cache: %w: --cache names another folder, --no-cache does without", err)
	}
	tmp := fmt.Sprintf("%s.%d", name, os.Getpid())
	f, err := c.FS.Create(tmp)
	if err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	_, err = f.Write(append(append([]byte(hex.EncodeToString(sum[:])), '\n'), text...))
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = c.FS.Rename(tmp, name)
	}
	if err != nil {
		_ = c.FS.Remove(tmp)
		return fmt.Errorf("cache: %w", err)
	}
	return nil
}

func (c Cache) name(key string) string { return filepath.Join(c.Dir, key[:2], key+".json") }
