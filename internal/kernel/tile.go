package kernel

import "unsafe"

// tile is the argument of a register-tile kernel, which computes
//
//	for i < m, j < n { c[i,j] = alpha*Σ_k a[i,k]*b[k,j] + beta*c[i,j] }
//
// for the m of that kernel and n = (its vectors-1)*width + lanes. Strides are
// in bytes; a may lie either way (row or k contiguous), b's and c's rows are
// contiguous. With beta 0, c is not read. Every sum is one chain of fused
// multiply-adds in ascending k. What comes next is prefetched meanwhile: the m
// rows at next, laid out as a, where nextStep is negative; else 128 bytes at
// next for every four k, nextStep apart.
type tile struct {
	k        int
	a        unsafe.Pointer
	aRow     int
	aStep    int
	b        unsafe.Pointer
	bStep    int
	c        unsafe.Pointer
	cRow     int
	next     unsafe.Pointer
	alpha    uint64 // bits of the element type, in the low half for float32
	beta     uint64
	mask     uint64 // the low `lanes` bits
	lanes    int    // of the last vector, 1 to the vector's width
	nextStep int
}

// maskTable gives AVX2 its masks: n lanes are the 32 bytes that start n lanes
// before the middle.
//
//lint:ignore U1000 assembly reads it
var maskTable = [16]uint32{
	^uint32(0), ^uint32(0), ^uint32(0), ^uint32(0), ^uint32(0), ^uint32(0), ^uint32(0), ^uint32(0),
}
