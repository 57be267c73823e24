// Package demo shows what smelt does on the bundled vision pool, in under a
// minute: it fuses and merges the pool's fine-tunes, evaluates everything, and
// writes a page. It does nothing but call package engine as the commands do,
// and names the command for each step.
package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"smelt/engine"
	"smelt/eval"
	"smelt/internal/vfs"
)

// Options say where the demo takes what from.
type Options struct {
	Pool    string // folder of the vision pool
	Out     string // folder to make; one that an earlier demo made is replaced
	Limit   int    // test pictures of each task; 0 is all
	Workers int
}

// Watcher hears how far the demo is. Its functions may be nil.
type Watcher struct {
	Step     func(line string)                 // a sentence on what begins or was made
	Row      func(r *eval.Results, row int)    // a row of the first table is whole
	Cell     func(r *eval.Results, row, _ int) // a cell of it is
	Making   engine.Progress                   // of weights, in bytes
	Measured engine.Progress                   // of models, in examples
}

// Result is results.json.
type Result struct {
	Format    int             `json:"smelt_demo"` // version of this file
	Generator string          `json:"generator"`
	Finished  bool            `json:"finished"`
	Pool      string          `json:"pool"`
	Made      []Made          `json:"made,omitempty"`
	Results   *eval.Results   `json:"results,omitempty"`
	Corrupted []*eval.Results `json:"corrupted,omitempty"` // the same models on disturbed pictures
	Seconds   float64         `json:"seconds,omitempty"`
	Page      string          `json:"page,omitempty"`
}

// Made is a model that the demo made.
type Made struct {
	Name       string  `json:"name"`
	Command    string  `json:"command"`
	Path       string  `json:"path"`
	Parameters int64   `json:"parameters"`
	Bytes      int64   `json:"bytes"`
	Seconds    float64 `json:"seconds"`
}

const (
	format      = 1
	resultsName = "results.json"
	pageName    = "index.html"
)

// demo is a demo under way.
type demo struct {
	Options
	ctx   context.Context
	fs    vfs.FS
	watch Watcher
	file  *eval.File
	base  string
	full  []engine.Source // the pool's full fine-tunes
	lora  []engine.Source // the same tasks as adapters
	res   *Result
	start time.Time
}

// Run runs the demo.
func Run(ctx context.Context, fsys vfs.FS, opt Options, watch Watcher) (*Result, error) {
	d := &demo{Options: opt, ctx: ctx, fs: fsys, watch: watch, start: time.Now()}
	d.res = &Result{Format: format, Generator: "smelt " + engine.Version, Pool: opt.Pool}
	if err := d.open(); err != nil {
		return nil, err
	}
	if err := d.prepare(); err != nil {
		return nil, err
	}
	if err := d.makeModels(); err != nil {
		return nil, err
	}
	if err := d.evaluate(); err != nil {
		return nil, err
	}
	return d.res, d.write()
}

// open finds the pool.
func (d *demo) open() (err error) {
	tasks := filepath.Join(d.Pool, "tasks.yaml")
	if _, err := d.fs.Stat(tasks); err != nil {
		return fmt.Errorf("%s: there is no vision pool here: run smelt demo in the repository's root, or name the pool with --pool DIR", tasks)
	}
	if d.file, err = eval.Load(d.fs, tasks); err != nil {
		return err
	}
	d.base = filepath.Join(d.Pool, "base")
	if d.full, err = engine.ExpertFolder(d.fs, filepath.Join(d.Pool, "experts")); err != nil {
		return err
	}
	if d.lora, err = engine.ExpertFolder(d.fs, filepath.Join(d.Pool, "lora")); err != nil {
		return err
	}
	d.say("%s: a base, %d fine-tunes, %d LoRA adapters, %d tasks", d.Pool, len(d.full), len(d.lora), len(d.file.Tasks))
	return nil
}

func (d *demo) say(format string, args ...any) {
	if d.watch.Step != nil {
		d.watch.Step(fmt.Sprintf(format, args...))
	}
}

// prepare makes the output folder, in place of an earlier demo's.
func (d *demo) prepare() error {
	if _, err := d.fs.Lstat(d.Out); err == nil {
		var old Result
		text, err := vfs.ReadFile(d.fs, filepath.Join(d.Out, resultsName), 64<<20)
		if err != nil || json.Unmarshal(text, &old) != nil || old.Format == 0 {
			return fmt.Errorf("%s: exists, and is no demo's: remove it, or choose another folder with -o", d.Out)
		}
		if err := d.fs.RemoveAll(d.Out); err != nil {
			return err
		}
	}
	if err := d.fs.MkdirAll(filepath.Join(d.Out, "models")); err != nil {
		return err
	}
	return d.save() // so that the next demo knows the folder
}

func (d *demo) save() error {
	text, err := json.MarshalIndent(d.res, "", " ")
	if err != nil {
		return err
	}
	return vfs.WriteFile(d.fs, filepath.Join(d.Out, resultsName), append(text, '\n'))
}

// model is where a model of the demo lies.
func (d *demo) model(name string) string { return filepath.Join(d.Out, "models", name) }

// Ranks of the fusions; lower ones are cut from them when they are evaluated.
var (
	fullRanks = []rank{{4, 4}, {8, 8}, {16, 16}, {16, 32}}
	loraRanks = []rank{{4, 4}, {8, 8}, {16, 16}}
)

// rank is a router rank and an expert rank.
type rank struct{ router, expert int }

func (r rank) String() string { return fmt.Sprintf("SMILE (%d,%d)", r.router, r.expert) }

// makeModels fuses and merges.
func (d *demo) makeModels() error {
	for _, f := range []struct {
		name, from string
		experts    []engine.Source
		rank       rank
	}{
		{"smile", "experts", d.full, fullRanks[len(fullRanks)-1]},
		{"smile-lora", "lora", d.lora, loraRanks[len(loraRanks)-1]},
	} {
		if err := d.fuse(f.name, f.from, f.experts, f.rank); err != nil {
			return err
		}
	}
	for _, m := range merges {
		if err := d.merge(m); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) fuse(name, from string, experts []engine.Source, r rank) error {
	command := fmt.Sprintf("smelt fuse %s %s/* -o %s --expert-rank %d --router-rank %d", d.base, filepath.Join(d.Pool, from), d.model(name), r.expert, r.router)
	in, err := engine.OpenInputs(d.fs, d.base, experts)
	if err != nil {
		return err
	}
	defer in.Close()
	plan, err := engine.NewPlan(in, engine.Options{ExpertRank: r.expert, RouterRank: r.router})
	if err != nil {
		return err
	}
	res, err := engine.Fuse(d.ctx, in, plan, engine.Part{}, d.model(name), d.Workers, d.watch.Making)
	if err != nil {
		return err
	}
	return d.made(name, command, res)
}

// merging is a plain merge of the full fine-tunes or of the adapters.
type merging struct {
	name, title string
	lora        bool
	opt         engine.MergeOptions
	flags       string
}

func (d *demo) merge(m merging) error {
	experts, from := d.full, "experts"
	if m.lora {
		experts, from = d.lora, "lora"
	}
	command := strings.TrimSpace(fmt.Sprintf("smelt merge %s %s %s/* -o %s %s", m.opt.Method, d.base, filepath.Join(d.Pool, from), d.model(m.name), m.flags))
	in, err := engine.OpenInputs(d.fs, d.base, experts)
	if err != nil {
		return err
	}
	defer in.Close()
	plan, err := engine.NewMergePlan(in, m.opt)
	if err != nil {
		return err
	}
	res, err := engine.Merge(d.ctx, in, plan, d.model(m.name), d.Workers, d.watch.Making)
	if err != nil {
		return err
	}
	return d.made(m.name, command, res)
}

func (d *demo) made(name, command string, res *engine.Result) error {
	d.res.Made = append(d.res.Made, Made{name, command, res.Out, res.Parameters.Output, res.Bytes, res.Timing.Total.Seconds()})
	d.say("$ %s", command)
	d.say("  %.1f s, %.2f × the base's parameters", res.Timing.Total.Seconds(), res.Parameters.Ratio())
	return nil
}
