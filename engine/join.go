package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"smelt/internal/vfs"
	"smelt/safetensors"
)

// partName is the file that says what a part holds.
const partName = "smelt-part.json"

// partFile is smelt-part.json: the plan that all parts share, and the units
// that this one did.
type partFile struct {
	Format    int                      `json:"format"`
	Generator string                   `json:"generator"`
	Part      int                      `json:"part"`
	Parts     int                      `json:"parts"`
	Plan      *Plan                    `json:"plan"`
	Shards    map[string]manifestShard `json:"shards"`
	Records   []record                 `json:"records"`
}

// partForm is a part of a fusion.
type partForm struct{ Part }

func (f partForm) shards(counts [2]int) (names [2][]string) {
	for i := range names {
		for s := range counts[i] {
			names[i] = append(names[i], fmt.Sprintf("part-%s-%05d.safetensors", streamNames[i], s+1))
		}
	}
	return names
}

func (f partForm) result(j *job, records []record) (*Result, error) {
	_, _, res := j.describe(records)
	return res, nil
}

func (f partForm) files(j *job, records []record, shards map[string]manifestShard, _ map[string]string) ([]namedFile, error) {
	text, err := json.Marshal(partFile{
		Format: formatVersion, Generator: "smelt " + Version, Part: f.I, Parts: f.N, Plan: j.plan, Shards: shards, Records: records,
	})
	if err != nil {
		return nil, err
	}
	files, err := j.carried(nil)
	return append(files, namedFile{partName, append(text, '\n')}), err
}

// openPart is a part with its shards mapped.
type openPart struct {
	dir string
	partFile
	files []*safetensors.File
	where map[string]*safetensors.File // by tensor
}

func readPart(fsys vfs.FS, dir string) (*openPart, error) {
	data, err := vfs.ReadFile(fsys, filepath.Join(dir, partName), 2<<30)
	if err != nil {
		return nil, fmt.Errorf("part %s: %w: name folders made by smelt fuse --part", dir, err)
	}
	p := &openPart{dir: dir, where: map[string]*safetensors.File{}}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p.partFile); err != nil {
		return nil, fmt.Errorf("part %s: %s: %w", dir, partName, err)
	}
	if p.Format != formatVersion || p.Plan == nil || p.Part < 1 || p.Part > p.Parts {
		return nil, fmt.Errorf("part %s: %s: format %d, part %d of %d: not a part that this version reads", dir, partName, p.Format, p.Part, p.Parts)
	}
	for name := range p.Shards {
		if name != filepath.Base(name) {
			return nil, fmt.Errorf("part %s: shard %q lies outside the folder", dir, name)
		}
		f, err := safetensors.Open(fsys, filepath.Join(dir, name))
		if err != nil {
			p.close()
			return nil, fmt.Errorf("part %s: %w", dir, err)
		}
		p.files = append(p.files, f)
		for _, t := range f.Tensors() {
			p.where[t.Name] = f
		}
	}
	return p, nil
}

func (p *openPart) close() {
	for _, f := range p.files {
		f.Close()
	}
}

// Join puts the parts of one fusion together: the bytes are those of a fusion
// in one piece.
func Join(ctx context.Context, fsys vfs.FS, dirs []string, out string, workers int, progress Progress) (*Result, error) {
	var parts []*openPart
	defer func() {
		for _, p := range parts {
			p.close()
		}
	}()
	for _, dir := range dirs {
		p, err := readPart(fsys, dir)
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	if len(parts) == 0 {
		return nil, errors.New("no parts: name the folders made by smelt fuse --part")
	}
	slices.SortFunc(parts, func(a, b *openPart) int { return a.Part - b.Part })
	unit, err := checkParts(parts)
	if err != nil {
		return nil, err
	}
	plan := parts[0].Plan
	key, err := plan.Key()
	if err != nil {
		return nil, err
	}
	j := job{
		fs: fsys, plan: plan, out: out, key: "join " + key, hi: len(plan.Units), workers: max(workers, 1), carry: parts[0].dir,
		form: fusedForm{}, reserved: plan.reserve(),
		produce: func(i int) ([]output, report, error) { return unit[i].part.produce(unit[i].record) },
	}
	return j.run(ctx, progress)
}

// doneUnit is a unit and the part that holds it.
type doneUnit struct {
	part   *openPart
	record record
}

// checkParts checks that the parts are those of one plan, and all of them.
func checkParts(parts []*openPart) ([]doneUnit, error) {
	first := parts[0]
	want, err := json.Marshal(first.Plan)
	if err != nil {
		return nil, err
	}
	var problems []string
	units := make([]doneUnit, 0, len(first.Plan.Units))
	for i, p := range parts {
		got, err := json.Marshal(p.Plan)
		if err != nil {
			return nil, err
		}
		switch {
		case p.Parts != first.Parts || !bytes.Equal(got, want):
			problems = append(problems, fmt.Sprintf("part %s is of another fusion than %s: other inputs or options", p.dir, first.dir))
			continue
		case i > 0 && p.Part == parts[i-1].Part:
			problems = append(problems, fmt.Sprintf("%s and %s are both part %d", parts[i-1].dir, p.dir, p.Part))
			continue
		}
		for _, r := range p.Records {
			if r.Unit != len(units) {
				break
			}
			units = append(units, doneUnit{p, r})
		}
	}
	if len(problems) == 0 && len(units) != len(first.Plan.Units) {
		have := make([]int, len(parts))
		for i, p := range parts {
			have[i] = p.Part
		}
		problems = append(problems, fmt.Sprintf("parts %v of %d do not make the whole: %d of %d units are there", have, first.Parts, len(units), len(first.Plan.Units)))
	}
	return units, group(problems)
}

// produce reads the tensors of one unit and checks them against their
// checksums.
func (p *openPart) produce(r record) ([]output, report, error) {
	var outs []output
	for stream := range r.Tensors {
		for _, s := range r.Tensors[stream] {
			f, ok := p.where[s.Name]
			if !ok {
				return nil, report{}, fmt.Errorf("part %s: tensor %q is missing: make the part again", p.dir, s.Name)
			}
			t, err := f.Tensor(s.Name)
			if err != nil {
				return nil, report{}, err
			}
			o := seal(stream, safetensors.Named{Name: s.Name, Tensor: t})
			if o.sum != s.XXH3 {
				return nil, report{}, fmt.Errorf("part %s: tensor %q: the checksum is wrong: the part is damaged, make it again", p.dir, s.Name)
			}
			outs = append(outs, o)
		}
	}
	return outs, r.Report, nil
}
