package smile

import (
	"fmt"

	"smelt/dtype"
	"smelt/safetensors"
	"smelt/tensor"
)

// Part is what one expert contributes to a fused module, in the stored dtype.
// A field that does not apply is the zero Tensor.
type Part struct {
	Rank  Rank
	Vt    tensor.Tensor // [R_e, in], R_e as Module.Rows says
	US    tensor.Tensor // [out, r_e]
	Dense tensor.Tensor // [out, in], only for Rank Dense
	Bias  tensor.Tensor // [out], where the expert changed the bias
}

// Join stacks the parts of all experts into the tensors of module m, in file
// order: vt, us, bias, dense. The parts' ranks must be those of m.
func (m *Module) Join(parts []Part) ([]safetensors.Named, error) {
	if len(parts) != len(m.Ranks) {
		return nil, fmt.Errorf("smile: module %q: %d parts for %d experts", m.Name, len(parts), len(m.Ranks))
	}
	var out []safetensors.Named
	var vt, us []tensor.Tensor
	biased := false
	d := dtype.DType(0)
	for e, p := range parts {
		if p.Rank != m.Ranks[e] {
			return nil, fmt.Errorf("smile: module %q: part of expert %d has rank %d, want %d", m.Name, e, p.Rank, m.Ranks[e])
		}
		if rows := m.Rows(e); rows > 0 {
			if err := shaped(p.Vt, rows, m.In); err != nil {
				return nil, fmt.Errorf("smile: %s of expert %d: %w", VtName(m.Name), e, err)
			}
			vt = append(vt, p.Vt)
			d = p.Vt.DType
		}
		if p.Rank > 0 {
			if err := shaped(p.US, m.Out, int(p.Rank)); err != nil {
				return nil, fmt.Errorf("smile: %s of expert %d: %w", USName(m.Name), e, err)
			}
			us = append(us, p.US)
		}
		if len(p.Bias.Data) > 0 {
			biased, d = true, p.Bias.DType
		}
	}
	if biased != m.Bias {
		return nil, fmt.Errorf("smile: module %q: some part has a bias: %v, the module says %v", m.Name, biased, m.Bias)
	}
	if len(vt) > 0 {
		out = append(out, safetensors.Named{Name: VtName(m.Name), Tensor: stackRows(vt, m.In)})
	}
	if len(us) > 0 {
		out = append(out, safetensors.Named{Name: USName(m.Name), Tensor: stackColumns(us, m.Out)})
	}
	if biased {
		b := tensor.Tensor{DType: d, Shape: []int{len(parts), m.Out}, Data: make([]byte, len(parts)*m.Out*d.Size())}
		for e, p := range parts {
			copy(b.Data[e*m.Out*d.Size():], p.Bias.Data)
		}
		out = append(out, safetensors.Named{Name: BiasName(m.Name), Tensor: b})
	}
	for e, p := range parts {
		if p.Rank == Dense {
			if err := shaped(p.Dense, m.Out, m.In); err != nil {
				return nil, fmt.Errorf("smile: %s: %w", DenseName(m.Name, e), err)
			}
			out = append(out, safetensors.Named{Name: DenseName(m.Name, e), Tensor: p.Dense})
		}
	}
	return out, nil
}

// Split is the inverse of Join: it cuts the tensors of module m, which get
// returns by name (ok is false where the file has none), into the experts'
// parts. Rows are views, columns copies.
func (m *Module) Split(get func(name string) (t tensor.Tensor, ok bool, err error)) ([]Part, error) {
	fetch := func(name string, shape ...int) (tensor.Tensor, error) {
		t, ok, err := get(name)
		switch {
		case err != nil:
			return t, err
		case !ok:
			return t, fmt.Errorf("smile: tensor %q is missing, want %v", name, shape)
		}
		if err := shaped(t, shape...); err != nil {
			return t, fmt.Errorf("smile: tensor %q: %w", name, err)
		}
		return t, nil
	}
	var vt, us, bias tensor.Tensor
	var err error
	if n := m.TotalRows(); n > 0 {
		if vt, err = fetch(VtName(m.Name), n, m.In); err != nil {
			return nil, err
		}
	}
	if n := m.TotalRank(); n > 0 {
		if us, err = fetch(USName(m.Name), m.Out, n); err != nil {
			return nil, err
		}
	}
	if _, ok, err := get(BiasName(m.Name)); err != nil {
		return nil, err
	} else if ok && !m.Bias {
		return nil, fmt.Errorf("smile: tensor %q is not announced by the config", BiasName(m.Name))
	}
	if m.Bias {
		if bias, err = fetch(BiasName(m.Name), len(m.Ranks), m.Out); err != nil {
			return nil, err
		}
	}
	parts := make([]Part, len(m.Ranks))
	row, col := 0, 0
	for e, r := range m.Ranks {
		p := &parts[e]
		p.Rank = r
		if n := m.Rows(e); n > 0 {
			p.Vt = Rows(vt, row, row+n)
			row += n
		}
		if r > 0 {
			p.US = Columns(us, col, col+int(r))
			col += int(r)
		}
		if r == Dense {
			if p.Dense, err = fetch(DenseName(m.Name, e), m.Out, m.In); err != nil {
				return nil, err
			}
		}
		if len(bias.Data) > 0 {
			if row := Rows(bias, e, e+1); anyBits(row.Data) {
				p.Bias = tensor.Tensor{DType: row.DType, Shape: []int{m.Out}, Data: row.Data}
			}
		}
	}
	return parts, nil
}

// Truncate cuts a part, stored with router rank from, to rank r and router
// rank g, neither larger than before. A part kept whole or untouched loses
// only router rows.
func (p Part) Truncate(r Rank, g int) Part {
	q := p
	switch p.Rank {
	case Untouched:
		return q
	case Dense:
	default:
		q.Rank = min(p.Rank, r)
		if q.US = (tensor.Tensor{}); q.Rank > 0 {
			q.US = Columns(p.US, 0, int(q.Rank))
		}
	}
	q.Vt = Rows(p.Vt, 0, max(int(q.Rank), g))
	return q
}

// Rows is the view of rows [lo, hi) of a matrix.
func Rows(t tensor.Tensor, lo, hi int) tensor.Tensor {
	row := t.Shape[1] * t.DType.Size()
	return tensor.Tensor{DType: t.DType, Shape: []int{hi - lo, t.Shape[1]}, Data: t.Data[lo*row : hi*row]}
}

// Columns copies columns [lo, hi) of a matrix.
func Columns(t tensor.Tensor, lo, hi int) tensor.Tensor {
	size := t.DType.Size()
	row, width := t.Shape[1]*size, (hi-lo)*size
	c := tensor.Tensor{DType: t.DType, Shape: []int{t.Shape[0], hi - lo}, Data: make([]byte, t.Shape[0]*width)}
	for i := range t.Shape[0] {
		copy(c.Data[i*width:(i+1)*width], t.Data[i*row+lo*size:])
	}
	return c
}

func stackRows(ts []tensor.Tensor, in int) tensor.Tensor {
	if len(ts) == 1 {
		return ts[0]
	}
	rows := 0
	for _, t := range ts {
		rows += t.Shape[0]
	}
	s := tensor.Tensor{DType: ts[0].DType, Shape: []int{rows, in}, Data: make([]byte, 0, rows*in*ts[0].DType.Size())}
	for _, t := range ts {
		s.Data = append(s.Data, t.Data...)
	}
	return s
}

func stackColumns(ts []tensor.Tensor, out int) tensor.Tensor {
	if len(ts) == 1 {
		return ts[0]
	}
	size, n := ts[0].DType.Size(), 0
	for _, t := range ts {
		n += t.Shape[1]
	}
	s := tensor.Tensor{DType: ts[0].DType, Shape: []int{out, n}, Data: make([]byte, out*n*size)}
	at := 0
	for i := range out {
		for _, t := range ts {
			w := t.Shape[1] * size
			at += copy(s.Data[at:], t.Data[i*w:(i+1)*w])
		}
	}
	return s
}

func shaped(t tensor.Tensor, shape ...int) error {
	if len(t.Shape) == len(shape) {
		same := true
		for i, d := range shape {
			same = same && t.Shape[i] == d
		}
		if same {
			return t.Validate()
		}
	}
	return fmt.Errorf("shape %v, want %v", t.Shape, shape)
}

func anyBits(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return true
		}
	}
	return false
}
