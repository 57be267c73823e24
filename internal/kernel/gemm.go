package kernel

import "fmt"

// Gemm computes c = alpha·op(a)·op(b) + beta·c, where op transposes when its
// flag is set: op(a) is [M,K], op(b) is [K,N], c is [M,N].
//
//	for i, j { c[i,j] = alpha * Σ_k op(a)[i,k]*op(b)[k,j] + beta*c[i,j] }
//
// With beta 0, c is written without being read. c must not overlap a or b. The
// sum over k is taken in an order that depends on the shape alone: results are
// the same bits for any number of workers (per instruction set).
func Gemm(workers int, transA, transB bool, alpha float32, a, b Matrix, beta float32, c Matrix) {
	a.check("Gemm: a")
	b.check("Gemm: b")
	c.check("Gemm: c")
	k := checkGemm("Gemm", transA, transB, a.Rows, a.Cols, b.Rows, b.Cols, c.Rows, c.Cols)
	active.f32.multiply(workers, c.Rows, c.Cols, k, alpha, a.operand(transA), b.operand(transB), beta, c.Data, c.Stride)
}

// Gemm64 is [Gemm] in float64.
func Gemm64(workers int, transA, transB bool, alpha float64, a, b Matrix64, beta float64, c Matrix64) {
	a.check("Gemm64: a")
	b.check("Gemm64: b")
	c.check("Gemm64: c")
	k := checkGemm("Gemm64", transA, transB, a.Rows, a.Cols, b.Rows, b.Cols, c.Rows, c.Cols)
	active.f64.multiply(workers, c.Rows, c.Cols, k, alpha, a.operand(transA), b.operand(transB), beta, c.Data, c.Stride)
}

// Syrk64 computes the symmetric c = alpha·a·aᵀ + beta·c (or alpha·aᵀ·a + beta·c
// when trans is set), doing half of a [Gemm64]'s work: the lower triangle is
// computed and mirrored. Only c's lower triangle is read.
func Syrk64(workers int, trans bool, alpha float64, a Matrix64, beta float64, c Matrix64) {
	a.check("Syrk64: a")
	c.check("Syrk64: c")
	checkGemm("Syrk64", trans, !trans, a.Rows, a.Cols, a.Rows, a.Cols, c.Rows, c.Cols)
	syrk64(workers, trans, alpha, a, beta, c)
}

// Syr2k64 computes the symmetric c = alpha·(a·bᵀ + b·aᵀ) + beta·c, a and b
// being [N,K]. Only c's lower triangle is read; both are written.
func Syr2k64(workers int, alpha float64, a, b Matrix64, beta float64, c Matrix64) {
	a.check("Syr2k64: a")
	b.check("Syr2k64: b")
	c.check("Syr2k64: c")
	checkGemm("Syr2k64", false, true, a.Rows, a.Cols, b.Rows, b.Cols, c.Rows, c.Cols)
	if a.Rows != b.Rows {
		panic(fmt.Sprintf("kernel: Syr2k64: a is %d × %d, b is %d × %d, want equal shapes", a.Rows, a.Cols, b.Rows, b.Cols))
	}
	syr2k64(workers, alpha, a, b, beta, c)
}

// GemmWeight computes c = x·wᵀ + beta·c for a stored weight w [out,in]: x is
// [N,in], c is [N,out]. Products and sums are float32 whatever w's dtype. Few
// rows of x stream w once, at the speed of memory.
func GemmWeight(workers int, c, x Matrix, w Weight, beta float32) {
	Problem{C: c, X: x, W: w, Beta: beta}.check("GemmWeight")
	gemmWeight(workers, c, x, w, beta)
}

// Problem is one product C = X·Wᵀ + Beta·C of a [GemmGroup].
type Problem struct {
	C, X Matrix
	W    Weight
	Beta float32
}

func (p Problem) check(op string) {
	p.C.check(op + ": c")
	p.X.check(op + ": x")
	p.W.check(op)
	if p.X.Cols != p.W.Cols || p.C.Rows != p.X.Rows || p.C.Cols != p.W.Rows {
		panic(fmt.Sprintf("kernel: %s: c [%d,%d] = x [%d,%d] · wᵀ, w [%d,%d]", op, p.C.Rows, p.C.Cols, p.X.Rows, p.X.Cols, p.W.Rows, p.W.Cols))
	}
}

// GemmGroup solves several independent products at once, the rows of each
// expert's tokens against that expert's weight, and spreads them over the
// workers. Every product is the same bits as by [GemmWeight].
func GemmGroup(workers int, problems []Problem) {
	for i := range problems {
		problems[i].check("GemmGroup")
	}
	gemmGroup(workers, problems)
}

// GemmBF16 is [GemmWeight] in a second accuracy class, for compute-bound
// products: where w is BF16 and the CPU multiplies pairs of bfloat16
// (VDPBF16PS), x is rounded to bfloat16, products are exact, and sums float32,
// two products to a step. An element then errs by at most 2⁻⁸·Σ|xᵢwᵢ| beyond
// float32's error, and denormals count as zero. Elsewhere, and for few rows of
// x, it is GemmWeight.
func GemmBF16(workers int, c, x Matrix, w Weight, beta float32) {
	Problem{C: c, X: x, W: w, Beta: beta}.check("GemmBF16")
	gemmBF16(workers, c, x, w, beta)
}

// checkGemm panics unless op(a)·op(b) has c's shape; it returns K.
func checkGemm(op string, transA, transB bool, ar, ac, br, bc, cr, cc int) int {
	m, k, k2, n := ar, ac, br, bc
	if transA {
		m, k = k, m
	}
	if transB {
		k2, n = n, k2
	}
	if k != k2 || m != cr || n != cc {
		panic(fmt.Sprintf("kernel: %s: c [%d,%d] = op(a) [%d,%d] · op(b) [%d,%d]", op, cr, cc, m, k, k2, n))
	}
	return k
}
