package merge

import (
	"hash/fnv"
	"math"
)

// trim sets dst to delta without the values whose magnitude is below the
// threshold. dst may be delta.
func trim(dst, delta []float64, threshold float32) {
	for i, v := range delta {
		if magnitude(v) < threshold {
			v = 0
		}
		dst[i] = v
	}
}

// magnitude is what values are ranked by: their size in float32.
func magnitude(v float64) float32 { return float32(math.Abs(v)) }

// mask is a random sequence, the same for the same seed, expert and tensor.
type mask uint64

func newMask(seed uint64, expert, tensor string) mask {
	h := fnv.New64a()
	for _, s := range []string{expert, tensor} {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	return mask(mix(h.Sum64() ^ mix(seed)))
}

// keeps reports whether element i is kept where a share of density is.
func (m mask) keeps(i int, density float64) bool {
	const golden = 0x9e3779b97f4a7c15
	return float64(mix(uint64(m)+uint64(i)*golden)>>11) < density*(1<<53)
}

// mix is the finaliser of SplitMix64.
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// drop sets dst to delta without the values that the mask drops; the others
// are divided by the density, so that the expectation stays (DARE,
// arXiv:2311.03099). offset is that of delta in its tensor. dst may be delta.
func drop(dst, delta []float64, m mask, offset int, density float64) {
	for i, v := range delta {
		if m.keeps(offset+i, density) {
			dst[i] = v / density
		} else {
			dst[i] = 0
		}
	}
}

// Magnitudes finds, in two passes over a task vector and in bounded memory,
// the magnitude of any rank exactly: the first pass counts by the upper half
// of a float32's bits, the second by the lower half within the one bucket that
// matters. The order of the values does not matter, and counts of several
// Magnitudes add up.
type Magnitudes struct {
	counts [1 << 16]int64
	zeros  int64  // of untouched tensors
	second bool   // the pass
	upper  uint32 // of the bucket that the second pass looks into
	rank   int64  // from below, from 0, in what is counted
}

// Add counts values.
func (m *Magnitudes) Add(delta []float64) {
	if !m.second {
		for _, v := range delta {
			m.counts[math.Float32bits(magnitude(v))>>16]++
		}
		return
	}
	for _, v := range delta {
		if bits := math.Float32bits(magnitude(v)); bits>>16 == m.upper {
			m.counts[bits&0xffff]++
		}
	}
}

// AddZeros counts n values of an untouched tensor, in either pass.
func (m *Magnitudes) AddZeros(n int64) { m.zeros += n }

// Merge adds the counts of another that is in the same pass.
func (m *Magnitudes) Merge(o *Magnitudes) {
	for i, n := range o.counts {
		m.counts[i] += n
	}
	m.zeros += o.zeros
}

// Narrow ends the first pass: the magnitude to be found is the least that
// keeps a share of density of all n values, which is, as in the paper's code,
// the one of rank n − ⌊n·density⌋ from below.
func (m *Magnitudes) Narrow(density float64) {
	total := m.zeros
	for _, n := range m.counts {
		total += n
	}
	m.counts[0] += m.zeros
	m.rank = max(0, total-int64(density*float64(total))-1)
	m.upper = m.bucket()
	m.counts, m.second, m.zeros = [1 << 16]int64{}, true, 0
}

// Again returns an empty count that is in the same pass.
func (m *Magnitudes) Again() *Magnitudes {
	return &Magnitudes{second: m.second, upper: m.upper}
}

// bucket finds the one that holds the rank, and leaves the rank within it.
func (m *Magnitudes) bucket() uint32 {
	for i, n := range m.counts {
		if m.rank < n {
			return uint32(i)
		}
		m.rank -= n
	}
	return uint32(len(m.counts) - 1)
}

// Threshold ends the second pass.
func (m *Magnitudes) Threshold() float32 {
	if m.upper == 0 {
		m.counts[0] += m.zeros
	}
	return math.Float32frombits(m.upper<<16 | m.bucket())
}
