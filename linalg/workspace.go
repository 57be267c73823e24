package linalg

import (
	"sync"

	"smelt/internal/kernel"
)

// workspace lends the memory of a decomposition, which the next one uses again:
// fresh memory has to be found and zeroed first, which takes as long as a
// product with it. What it lends has any content, and is taken back in the
// opposite order. From no workspace come zeros alone, in memory of their own.
type workspace struct {
	narrow arena[float32]
	wide   arena[float64]
}

var workspaces = sync.Pool{New: func() any { return new(workspace) }}

func (ws *workspace) matrix(rows, cols int) Matrix {
	return Matrix{Rows: rows, Cols: cols, Stride: cols, Data: ws.narrow.take(rows * cols)}
}

func (ws *workspace) matrix64(rows, cols int) Matrix64 {
	return Matrix64{Rows: rows, Cols: cols, Stride: cols, Data: ws.wide.take(rows * cols)}
}

// zeros64 lends a matrix of zeros.
func (ws *workspace) zeros64(rows, cols int) Matrix64 {
	if ws == nil {
		return kernel.New64(rows, cols)
	}
	m := ws.matrix64(rows, cols)
	clear(m.Data)
	return m
}

// clone64 returns a copy of a.
func (ws *workspace) clone64(a Matrix64) Matrix64 {
	c := ws.matrix64(a.Rows, a.Cols)
	for i := range a.Rows {
		copy(c.Row(i), a.Row(i))
	}
	return c
}

// widen returns a copy of a in float64.
func (ws *workspace) widen(a Matrix) Matrix64 {
	w := ws.matrix64(a.Rows, a.Cols)
	for i := range a.Rows {
		kernel.F32ToF64(w.Row(i), a.Row(i))
	}
	return w
}

// level says how much a workspace has lent.
type level struct{ narrow, wide position }

func (ws *workspace) level() level {
	if ws == nil {
		return level{}
	}
	return level{ws.narrow.at, ws.wide.at}
}

// back takes back what was lent beyond l.
func (ws *workspace) back(l level) {
	if ws != nil {
		ws.narrow.at, ws.wide.at = l.narrow, l.wide
	}
}

// arena lends slices from chunks that it keeps.
type arena[T float32 | float64] struct {
	chunks [][]T
	at     position
}

type position struct{ chunk, used int }

const minChunk = 1 << 17 // elements

func (a *arena[T]) take(n int) []T {
	for ; a.at.chunk < len(a.chunks); a.at = (position{a.at.chunk + 1, 0}) {
		if c := a.chunks[a.at.chunk]; a.at.used+n <= len(c) {
			s := c[a.at.used : a.at.used+n : a.at.used+n]
			a.at.used += (n + 15) / 16 * 16
			return s
		}
	}
	a.chunks = append(a.chunks, make([]T, max(n, minChunk)))
	a.at = position{len(a.chunks) - 1, (n + 15) / 16 * 16}
	return a.chunks[a.at.chunk][:n:n]
}
