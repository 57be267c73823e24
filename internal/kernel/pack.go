package kernel

import (
	"math/bits"
	"unsafe"

	"smelt/dtype"
)

// packing is the argument of a packing kernel, of which there are three.
// Strides, steps and ahead (how far beyond its reads a kernel prefetches) are
// in bytes. A vector is the vector of the type written.
//
// copyRows copies rows of vecs vectors, widening what it reads; the last
// vector of a row is masked and filled up with zeros.
//
// transpose writes up to one vector's width of rows as columns of dst, widening
// what it reads. It stores whole vectors:
//
//	for j < cols, i < width { dst[j,i] = src[i,j] if i < rows, else 0 }
//
// with cols = (vecs-1)*width + bits in mask.
//
// spread copies rows of vecs masked vectors that lie srcStep apart to where
// they lie dstStep apart, and stores nothing outside the mask.
type packing struct {
	dst       unsafe.Pointer
	dstStride int
	src       unsafe.Pointer
	srcStride int
	rows      int
	vecs      int
	mask      uint64
	ahead     int
	srcStep   int
	dstStep   int
}

// kind is how the elements of an operand are stored.
type kind int

const (
	native kind = iota // as the engine computes
	bf16
	f16
	kinds
)

// packers are the packing kernels of an engine.
type packers struct {
	copyRows  [kinds]func(*packing)
	transpose [kinds]func(*packing)
	spread    func(*packing)
}

// genericPackers are those of an engine whose vectors have the given width.
func genericPackers[T float](width int) packers {
	p := packers{spread: func(p *packing) { spread[T](p) }}
	p.copyRows[native] = func(p *packing) { copyNative[T](p, width) }
	p.transpose[native] = func(p *packing) { transposeNative[T](p, width) }
	for k := bf16; k < kinds; k++ {
		load := loader[T](k)
		p.copyRows[k] = func(p *packing) { copyRows(p, width, load) }
		p.transpose[k] = func(p *packing) { transpose(p, width, load) }
	}
	return p
}

// loader returns the function that reads and widens one element.
func loader[T float](k kind) func(unsafe.Pointer, int) T {
	switch k {
	case bf16:
		return func(p unsafe.Pointer, i int) T { return T(dtype.BF16ToFloat32(*(*uint16)(unsafe.Add(p, 2*i)))) }
	case f16:
		return func(p unsafe.Pointer, i int) T { return T(dtype.F16ToFloat32(*(*uint16)(unsafe.Add(p, 2*i)))) }
	}
	var z T
	size := int(unsafe.Sizeof(z))
	return func(p unsafe.Pointer, i int) T { return *(*T)(unsafe.Add(p, size*i)) }
}

func copyRows[T float](p *packing, width int, load func(unsafe.Pointer, int) T) {
	cols := (p.vecs-1)*width + bits.OnesCount64(p.mask)
	for i := range p.rows {
		d := unsafe.Slice((*T)(unsafe.Add(p.dst, i*p.dstStride)), p.vecs*width)
		s := unsafe.Add(p.src, i*p.srcStride)
		for j := range cols {
			d[j] = load(s, j)
		}
		clear(d[cols:])
	}
}

func copyNative[T float](p *packing, width int) {
	cols := (p.vecs-1)*width + bits.OnesCount64(p.mask)
	for i := range p.rows {
		d := unsafe.Slice((*T)(unsafe.Add(p.dst, i*p.dstStride)), p.vecs*width)
		copy(d, unsafe.Slice((*T)(unsafe.Add(p.src, i*p.srcStride)), cols))
		clear(d[cols:])
	}
}

// transposeNative reads rows from end to end, so that they stream.
func transposeNative[T float](p *packing, width int) {
	cols := (p.vecs-1)*width + bits.OnesCount64(p.mask)
	step := p.dstStride / elemSize[T]()
	d := unsafe.Slice((*T)(p.dst), (cols-1)*step+width)
	for i := range width {
		if i >= p.rows {
			for j := range cols {
				d[j*step+i] = 0
			}
			continue
		}
		for j, v := range unsafe.Slice((*T)(unsafe.Add(p.src, i*p.srcStride)), cols) {
			d[j*step+i] = v
		}
	}
}

func transpose[T float](p *packing, width int, load func(unsafe.Pointer, int) T) {
	cols := (p.vecs-1)*width + bits.OnesCount64(p.mask)
	for j := range cols {
		d := unsafe.Slice((*T)(unsafe.Add(p.dst, j*p.dstStride)), width)
		for i := range p.rows {
			d[i] = load(unsafe.Add(p.src, i*p.srcStride), j)
		}
		clear(d[p.rows:])
	}
}

func spread[T float](p *packing) {
	n := bits.OnesCount64(p.mask)
	for i := range p.rows {
		for v := range p.vecs {
			s := unsafe.Slice((*T)(unsafe.Add(p.src, i*p.srcStride+v*p.srcStep)), n)
			copy(unsafe.Slice((*T)(unsafe.Add(p.dst, i*p.dstStride+v*p.dstStep)), n), s)
		}
	}
}
