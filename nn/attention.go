package nn

import "smelt/internal/kernel"

// Attention is softmax(Scale·q·kᵀ + bias)·v for H heads that share Hkv key and
// value heads in groups of H/Hkv.
type Attention struct {
	Heads, KVHeads, HeadDim int
	Scale                   float32
	Causal                  bool // a query sees no key after its own position
	Window                  int  // with Causal: it sees the last Window keys alone; 0: all

	// Bias, where it has rows, is added to the scores: Bias[h, Zero+k-q] for
	// the key at position k and the query at position q.
	Bias kernel.Matrix
	Zero int
}

// Segment is the part of a pass that belongs to one sequence: rows [Lo,Hi) of
// the queries, over all its keys. With Causal the queries stand at the last
// Hi-Lo positions of the keys; without, and with Bias, at 0, 1, ….
type Segment struct {
	Lo, Hi int
	K, V   kernel.Matrix // [S, Hkv·Dh]
}

// queryBlock is how many queries of a head are scored at once.
const queryBlock = 64

// Forward writes y [N, H·Dh] for the queries q [N, H·Dh]. Rows that lie in no
// segment are left alone.
func (a *Attention) Forward(p *Pass, y, q kernel.Matrix, segments []Segment) {
	tasks, keys, work := 0, 0, 0
	for _, s := range segments {
		tasks += a.Heads * ((s.Hi - s.Lo + queryBlock - 1) / queryBlock)
		keys = max(keys, s.K.Rows)
		work += (s.Hi - s.Lo) * s.K.Rows * a.Heads * a.HeadDim
	}
	m := p.Mark()
	workers := p.workers(tasks, work)
	rows := 1
	for _, s := range segments {
		rows = max(rows, min(queryBlock, s.Hi-s.Lo))
	}
	scores := p.Floats(workers * rows * keys)
	if workers == 1 {
		for i := range tasks {
			a.task(y, q, segments, scores, i)
		}
	} else {
		Each(workers, tasks, func(w, i int) {
			a.task(y, q, segments, scores[w*rows*keys:(w+1)*rows*keys], i)
		})
	}
	p.Release(m)
}

// task finds and computes the i-th block of queries.
func (a *Attention) task(y, q kernel.Matrix, segments []Segment, scores []float32, i int) {
	for _, s := range segments {
		blocks := (s.Hi - s.Lo + queryBlock - 1) / queryBlock
		if n := a.Heads * blocks; i >= n {
			i -= n
			continue
		}
		lo := s.Lo + i%blocks*queryBlock
		a.block(y, q, s, lo, min(s.Hi, lo+queryBlock), i/blocks, scores)
		return
	}
}

// block computes queries [lo,hi) of head h.
func (a *Attention) block(y, q kernel.Matrix, s Segment, lo, hi, h int, scratch []float32) {
	d := a.HeadDim
	c := h / (a.Heads / a.KVHeads) * d
	first := lo - s.Lo // position of the first query
	if a.Causal {
		first += s.K.Rows - (s.Hi - s.Lo)
	}
	from, to := 0, s.K.Rows // keys that some query of the block sees
	if a.Causal {
		to = first + hi - lo
		if a.Window > 0 {
			from = max(0, first-a.Window+1)
		}
	}
	k, v := s.K.Slice(from, to, c, c+d), s.V.Slice(from, to, c, c+d)
	qh, yh := q.Slice(lo, hi, h*d, h*d+d), y.Slice(lo, hi, h*d, h*d+d)
	scores := kernel.Of(hi-lo, to-from, scratch[:(hi-lo)*(to-from)])
	if hi-lo == 1 {
		kernel.Gemv(1, false, a.Scale, k, qh.Row(0), 0, scores.Data)
	} else {
		kernel.Gemm(1, false, true, a.Scale, qh, k, 0, scores)
	}
	for i := range scores.Rows {
		pos, row, begin := first+i, scores.Row(i), 0
		if a.Causal {
			row, begin = a.mask(row, pos, from)
		}
		if a.Bias.Rows > 0 {
			b := a.Bias.Row(h)[a.Zero+from+begin-pos:]
			kernel.Add(row, row, b[:len(row)])
		}
		kernel.Softmax(row, row)
	}
	if hi-lo == 1 {
		kernel.Gemv(1, true, 1, v, scores.Data, 0, yh.Row(0))
	} else {
		kernel.Gemm(1, false, false, 1, scores, v, 0, yh)
	}
}

// mask clears the scores of the keys that the query at position pos does not
// see; row[0] belongs to key from. It returns the part that it sees and where
// in the row that begins.
func (a *Attention) mask(row []float32, pos, from int) (seen []float32, begin int) {
	end := pos + 1 - from
	if a.Window > 0 {
		begin = max(0, pos-a.Window+1-from)
	}
	clear(row[:begin])
	clear(row[end:])
	return row[begin:end], begin
}
