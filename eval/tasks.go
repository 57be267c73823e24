package eval

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"smelt/internal/vfs"
)

// FormatVersion is the version of task files that this package reads
// (docs/format/tasks.md).
const FormatVersion = 1

// Types of tasks.
const (
	ImageClassification = "image-classification"
	TextToText          = "text-to-text"
	MultipleChoice      = "multiple-choice"
	Perplexity          = "perplexity"
)

// Metrics.
const (
	Accuracy           = "accuracy"
	AccuracyNormalised = "accuracy-normalised"
	ExactMatch         = "exact-match"
	F1                 = "f1"
	PerplexityMetric   = "perplexity"
	BitsPerByte        = "bits-per-byte"
	Agreement          = "agreement"
)

// metrics of each type; the first is the default.
var metrics = map[string][]string{
	ImageClassification: {Accuracy, Agreement},
	TextToText:          {ExactMatch, F1, Agreement},
	MultipleChoice:      {Accuracy, AccuracyNormalised, Agreement},
	Perplexity:          {PerplexityMetric, BitsPerByte},
}

// File is a task file. Its paths are as they were written, relative to Dir.
type File struct {
	Path    string
	Dir     string
	Pool    string // a title
	Base    string // the folder of the base, "" where the file names none
	Experts string // the folder of full fine-tunes, one a task
	LoRA    string // the folder of LoRA adapters, one a task
	Tasks   []Task
}

// Task is one task of a file.
type Task struct {
	Name    string
	Type    string
	Metric  string
	Expert  string // the name of the expert that was trained for it
	HeldOut bool   // no expert was trained for it
	Limit   int    // use the first so many examples; 0 means all
	Data    Data
	Corrupt Corruption // of images

	Classes    []string // image classification: entry i names label i
	Templates  []string // texts with {} for the class
	Head       string   // or a safetensors file with the head [classes, width]
	HeadTensor string   // its tensor

	Prompt       string   // with {field} for the fields of an example
	Target       string   // text to text
	MaxNewTokens int      // text to text
	Stop         []string // text to text: texts that end an answer
	Choices      []string // multiple choice: one "{field}" that is a list, or a text each
	Answer       string   // multiple choice: the right one's index or text
	Separator    string   // perplexity: between the documents of a text file
	Context      int      // perplexity: tokens seen at a time; 0: as many as the model has positions, 2,048 at most

	// Names gives the names of a field's numbers, as ClassLabel does in a hub
	// data set: {label} then is the name.
	Names map[string][]string

	Reference string // metric agreement: the model to agree with

	file string
	line int
}

// Data says where the examples are.
type Data struct {
	Images, Labels string   // a pair of IDX files
	Paths          []string // files, patterns or a folder
	Split          string   // of a folder with several
	Image, Label   string   // fields of an image task's rows
	Text           string   // the field of a perplexity task's rows
}

// Errorf returns an error that begins with the place of the task in its file.
func (t *Task) Errorf(format string, args ...any) error {
	return fmt.Errorf("%s:%d: task %s: %w", t.file, t.line, t.Name, fmt.Errorf(format, args...))
}

// Load reads a task file.
func Load(fsys vfs.FS, path string) (*File, error) {
	text, err := vfs.ReadFile(fsys, path, maxTaskFile)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("task file %s does not exist: docs/format/tasks.md says how to write one", path)
		}
		return nil, err
	}
	return Parse(path, text)
}

// Parse is Load for the text of a file that is, or would be, at path.
func Parse(path string, text []byte) (*File, error) {
	root, err := parseYAML(path, text)
	if err != nil {
		return nil, err
	}
	f := &File{Path: path, Dir: filepath.Dir(path)}
	version := 0
	err = root.object("a task file",
		count("version", 1, 1<<30, &version),
		str("pool", &f.Pool), str("base", &f.Base), str("experts", &f.Experts), str("lora", &f.LoRA),
		field{"tasks", func(n node) error {
			return n.list("tasks", func(n node) error { return f.add(n) })
		}})
	switch {
	case err != nil:
		return nil, err
	case version == 0:
		return nil, root.errorf("a task file begins with version: %d", FormatVersion)
	case version != FormatVersion:
		return nil, root.errorf("version is %d, this smelt reads %d", version, FormatVersion)
	case len(f.Tasks) == 0:
		return nil, root.errorf("a task file names at least one task under tasks")
	}
	return f, nil
}

func (f *File) add(n node) error {
	t := Task{file: n.file, line: n.line()}
	err := n.object("a task",
		str("name", &t.Name),
		oneOf("type", &t.Type, ImageClassification, TextToText, MultipleChoice, Perplexity),
		str("metric", &t.Metric), str("expert", &t.Expert), flag("held_out", &t.HeldOut),
		count("limit", 1, 1<<30, &t.Limit),
		str("images", &t.Data.Images), str("labels", &t.Data.Labels),
		oneOrMore("data", &t.Data.Paths), str("split", &t.Data.Split),
		str("image", &t.Data.Image), str("label", &t.Data.Label), str("text", &t.Data.Text),
		field{"corruption", t.Corrupt.read},
		oneOrMore("classes", &t.Classes), texts("templates", &t.Templates),
		str("head", &t.Head), str("head_tensor", &t.HeadTensor),
		str("prompt", &t.Prompt), str("target", &t.Target), count("max_new_tokens", 1, 1<<16, &t.MaxNewTokens), oneOrMore("stop", &t.Stop),
		oneOrMore("choices", &t.Choices), str("answer", &t.Answer),
		str("separator", &t.Separator), count("context", 2, 1<<20, &t.Context),
		field{"names", t.readNames},
		str("reference", &t.Reference))
	if err != nil {
		return err
	}
	if t.Name == "" {
		return n.errorf("a task has no name")
	}
	if len(t.Name) > 100 || strings.ContainsAny(t.Name, "/\\\n\r\t|`\"") {
		return n.errorf("task name %.120q: want at most 100 characters without slashes, quotes and control characters", t.Name)
	}
	if slices.ContainsFunc(f.Tasks, func(o Task) bool { return o.Name == t.Name }) {
		return n.errorf("two tasks are called %q", t.Name)
	}
	if t.Expert == "" && !t.HeldOut {
		t.Expert = t.Name
	}
	if err := t.validate(); err != nil {
		return err
	}
	f.Tasks = append(f.Tasks, t)
	return nil
}

func (t *Task) readNames(n node) error {
	pairs, err := n.pairs("names")
	if err != nil {
		return err
	}
	t.Names = map[string][]string{}
	for _, p := range pairs {
		key, err := node{n.file, p.Key}.text("field")
		if err != nil {
			return err
		}
		if t.Names[key], err = (node{n.file, p.Value}).strings("names of " + key); err != nil {
			return err
		}
	}
	return nil
}

// validate checks what belongs together, and fills in defaults.
func (t *Task) validate() error {
	want, ok := metrics[t.Type]
	if !ok {
		return t.Errorf("has no type: want %s, %s, %s or %s", ImageClassification, TextToText, MultipleChoice, Perplexity)
	}
	if t.Metric == "" {
		t.Metric = want[0]
	}
	if !slices.Contains(want, t.Metric) {
		return t.Errorf("metric %q is none of a task of type %s: want %s", t.Metric, t.Type, strings.Join(want, ", "))
	}
	if (t.Metric == Agreement) != (t.Reference != "") {
		return t.Errorf("metric agreement and reference, the model to agree with, belong together")
	}
	if t.HeldOut && t.Expert != "" {
		return t.Errorf("is held out and names an expert: it is one or the other")
	}
	if err := t.stray(); err != nil {
		return err
	}
	switch t.Type {
	case ImageClassification:
		return t.validateImages()
	case TextToText:
		if t.Prompt == "" || t.Target == "" && t.Metric != Agreement {
			return t.Errorf("a %s task has a prompt and a target", t.Type)
		}
		if t.MaxNewTokens == 0 {
			t.MaxNewTokens = 64
		}
	case MultipleChoice:
		if t.Prompt == "" || len(t.Choices) == 0 || t.Answer == "" && t.Metric != Agreement {
			return t.Errorf("a %s task has a prompt, choices and an answer", t.Type)
		}
	case Perplexity:
		if t.Data.Text == "" {
			t.Data.Text = "text"
		}
	}
	if len(t.Data.Paths) == 0 {
		return t.Errorf("has no data")
	}
	return nil
}

func (t *Task) validateImages() error {
	pair := t.Data.Images != "" || t.Data.Labels != ""
	switch {
	case pair && len(t.Data.Paths) > 0:
		return t.Errorf("has data and a pair of images and labels: give one")
	case pair && t.Data.Images == "":
		return t.Errorf("has labels and no images")
	case pair && t.Data.Labels == "" && t.Metric != Agreement:
		return t.Errorf("has images and no labels: labels names an IDX file with one label an image")
	case !pair && len(t.Data.Paths) == 0:
		return t.Errorf("has no data: give images and labels (IDX) or data (an image folder, parquet, CSV or JSONL)")
	case (t.Head != "") == (len(t.Templates) > 0):
		return t.Errorf("wants templates, texts with {} for a class, or a head file: one of them")
	case t.HeadTensor != "" && t.Head == "":
		return t.Errorf("has a head_tensor and no head")
	}
	for _, s := range t.Templates {
		if !strings.Contains(s, "{}") {
			return t.Errorf("template %q has no {} for the class", s)
		}
	}
	if t.Head != "" && t.HeadTensor == "" {
		t.HeadTensor = t.Name
	}
	if t.Data.Image == "" {
		t.Data.Image = "image"
	}
	if t.Data.Label == "" {
		t.Data.Label = "label"
	}
	return nil
}

// stray refuses keys of another type, which would be without effect.
func (t *Task) stray() error {
	image, text := t.Type == ImageClassification, t.Type == TextToText
	choice, lm := t.Type == MultipleChoice, t.Type == Perplexity
	for _, k := range []struct {
		key    string
		given  bool
		belong bool
	}{
		{"images", t.Data.Images != "", image},
		{"labels", t.Data.Labels != "", image},
		{"image", t.Data.Image != "", image},
		{"label", t.Data.Label != "", image},
		{"corruption", t.Corrupt.Kind != "", image},
		{"classes", len(t.Classes) > 0, image},
		{"templates", len(t.Templates) > 0, image},
		{"head", t.Head != "", image},
		{"head_tensor", t.HeadTensor != "", image},
		{"prompt", t.Prompt != "", text || choice},
		{"target", t.Target != "", text},
		{"max_new_tokens", t.MaxNewTokens > 0, text},
		{"stop", len(t.Stop) > 0, text},
		{"choices", len(t.Choices) > 0, choice},
		{"answer", t.Answer != "", choice},
		{"names", t.Names != nil, text || choice},
		{"text", t.Data.Text != "", lm},
		{"separator", t.Separator != "", lm},
		{"context", t.Context > 0, lm},
	} {
		if k.given && !k.belong {
			return t.Errorf("%s is no key of a task of type %s", k.key, t.Type)
		}
	}
	return nil
}

// LowerIsBetter reports whether a metric counts downwards.
func LowerIsBetter(metric string) bool {
	return metric == PerplexityMetric || metric == BitsPerByte
}
