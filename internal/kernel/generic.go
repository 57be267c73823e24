package kernel

import (
	"smelt/dtype"
)

func syrk64(workers int, trans bool, alpha float64, a Matrix64, beta float64, c Matrix64) {
	mirror64(c)
	Gemm64(workers, trans, !trans, alpha, a, a, beta, c)
	mirror64(c)
}

func syr2k64(workers int, alpha float64, a, b Matrix64, beta float64, c Matrix64) {
	mirror64(c)
	Gemm64(workers, false, true, alpha, a, b, beta, c)
	Gemm64(workers, false, true, alpha, b, a, 1, c)
	mirror64(c)
}

// mirror64 copies c's lower triangle to its upper one.
func mirror64(c Matrix64) {
	for i := range c.Rows {
		for j := range i {
			c.Data[j*c.Stride+i] = c.Data[i*c.Stride+j]
		}
	}
}

func gemmGroup(workers int, problems []Problem) {
	for _, p := range problems {
		gemmWeight(workers, p.C, p.X, p.W, p.Beta)
	}
}

func gemmBF16(workers int, c, x Matrix, w Weight, beta float32) {
	if c.Rows == 0 {
		return
	}
	round := func(v []float32) {
		for i := range v {
			v[i] = dtype.BF16ToFloat32(dtype.Float32ToBF16(v[i]))
		}
	}
	xr := New(x.Rows, x.Cols)
	for i := range x.Rows {
		copy(xr.Row(i), x.Row(i))
	}
	round(xr.Data)
	wr := New(w.Rows, w.Cols)
	dtype.ToFloat32(wr.Data, w.Data[:w.Rows*w.Cols*w.DType.Size()], w.DType)
	round(wr.Data)
	gemmWeight(workers, c, xr, WeightOf(wr), beta)
}

func gemv(workers int, trans bool, alpha float32, a Matrix, x []float32, beta float32, y []float32) {
	Gemm(workers, trans, false, alpha, a, column(x), beta, column(y))
}

func gemv64(workers int, trans bool, alpha float64, a Matrix64, x []float64, beta float64, y []float64) {
	Gemm64(workers, trans, false, alpha, a, column64(x), beta, column64(y))
}

func column(x []float32) Matrix     { return Matrix{Rows: len(x), Cols: 1, Stride: 1, Data: x} }
func column64(x []float64) Matrix64 { return Matrix64{Rows: len(x), Cols: 1, Stride: 1, Data: x} }

func ger(_ int, alpha float32, x, y []float32, a Matrix) {
	for i, v := range x {
		if len(y) > 0 {
			Axpy(alpha*v, y, a.Row(i))
		}
	}
}

func ger64(_ int, alpha float64, x, y []float64, a Matrix64) {
	for i, v := range x {
		if len(y) > 0 {
			Axpy64(alpha*v, y, a.Row(i))
		}
	}
}
