package engine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"

	"smelt/internal/vfs"
)

// manifestName is the file that says what else is in a fused model.
const manifestName = "smelt.json"

// Manifest is smelt.json: sizes and checksums of everything in the directory,
// and what each expert kept. docs/format/native.md specifies it.
type Manifest struct {
	Format     int                         `json:"format"`
	Generator  string                      `json:"generator"`
	Asked      string                      `json:"asked"` // what decided the ranks
	Files      map[string]manifestFile     `json:"files"`
	Shards     map[string]manifestShard    `json:"shards"`
	Parameters Parameters                  `json:"parameters"`
	Modules    map[string][]ExpertFidelity `json:"modules"`
	Others     Others                      `json:"others"`
}

type manifestFile struct {
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

type manifestShard struct {
	Bytes        int64             `json:"bytes"`
	HeaderSHA256 string            `json:"header_sha256"`
	Tensors      map[string]string `json:"xxh3_128"` // of each tensor
}

// Parameters counts the elements of all tensors.
type Parameters struct {
	Base    int64            `json:"base"`
	Output  int64            `json:"output"`
	Sources map[string]int64 `json:"sources,omitempty"` // by expert: of what it was made from
}

// KeepingAll is what base and experts take as they were.
func (p Parameters) KeepingAll() int64 {
	n := p.Base
	for _, v := range p.Sources {
		n += v
	}
	return n
}

// Ratio is the size of the output relative to the base.
func (p Parameters) Ratio() float64 { return float64(p.Output) / float64(p.Base) }

// ExpertFidelity says how much of an expert's delta a module keeps. Energies
// are squared Frobenius norms.
type ExpertFidelity struct {
	Expert   string  `json:"expert"`
	Energy   float64 `json:"energy"`   // ‖ΔW‖²
	Captured float64 `json:"captured"` // Σσ² of the triplets kept, before rounding to the stored dtype
	Bound    float64 `json:"bound"`    // no matrix of that rank captures more
}

// Others says what became of tensors that differ from the base but are not
// fused.
type Others struct {
	Policy  string          `json:"policy"` // base or average
	Changed []ChangedTensor `json:"changed,omitempty"`
}

// ChangedTensor is a tensor that some experts changed and that is not fused.
type ChangedTensor struct {
	Tensor  string             `json:"tensor"`
	Note    string             `json:"note,omitempty"` // another shape, say
	Experts map[string]float64 `json:"experts"`        // ‖Δ‖² of each expert that changed it
}

// readManifest reads smelt.json of a fused model.
func readManifest(fsys vfs.FS, dir string) (*Manifest, error) {
	path := filepath.Join(dir, manifestName)
	data, err := vfs.ReadFile(fsys, path, 1<<30)
	if err != nil {
		return nil, err
	}
	var m Manifest
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&m); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if m.Format != formatVersion {
		return nil, fmt.Errorf("%s: format %d, this version reads %d: use a newer smelt", path, m.Format, formatVersion)
	}
	return &m, nil
}
