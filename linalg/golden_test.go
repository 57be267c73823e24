package linalg_test

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"testing"

	"smelt/internal/kernel"
	"smelt/linalg"
	"smelt/linalg/linalgtest"
)

type goldenFile struct {
	SVD []struct {
		Name       string
		Rows, Cols int
		Data       []byte
		S          []float64
		Router     int
		Vt         []byte
	}
	LoRA []struct {
		Name          string
		Out, In, Rank int
		Scale         float64
		B, A          []byte
		S             []float64
	}
}

func golden(t *testing.T) goldenFile {
	t.Helper()
	raw, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var g goldenFile
	if err := json.Unmarshal(raw, &g); err != nil {
		t.Fatal(err)
	}
	if len(g.SVD) == 0 || len(g.LoRA) == 0 {
		t.Fatal("testdata/golden.json has no cases")
	}
	return g
}

func matrix(rows, cols int, raw []byte) linalg.Matrix {
	a := kernel.New(rows, cols)
	for i := range a.Data {
		a.Data[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return a
}

func TestGolden(t *testing.T) {
	for _, g := range golden(t).SVD {
		t.Run(g.Name, func(t *testing.T) {
			a := matrix(g.Rows, g.Cols, g.Data)
			exact, err := linalg.Exact64(linalgtest.Widen(a), 1)
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range g.S {
				if !(math.Abs(exact.S[i]-want) <= 1e-14*g.S[0]*float64(len(g.S))) {
					t.Errorf("Exact64: σ[%d] = %v, numpy has %v", i, exact.S[i], want)
				}
			}
			for _, r := range []int{1, 12, len(g.S)} {
				opt := linalg.Options{Rank: r, RouterRank: min(r, g.Router), Tolerance: 1e-6, RouterTolerance: 1e-3}
				d, err := linalg.Truncate(a, opt)
				if err != nil {
					t.Fatal(err)
				}
				linalgtest.CheckTruncated(t, a, d, opt, g.S)
				// What the tolerance on the energy allows one value to be off.
				for i, s := range d.S {
					if want := g.S[i]; !(math.Abs(s*s-want*want) <= 1e-5*d.Captured) {
						t.Errorf("rank %d: σ[%d] = %v, numpy has %v", r, i, s, want)
					}
				}
				if g.Router == 0 || r < g.Router {
					continue
				}
				vt := kernel.New(g.Router, g.Cols)
				for i := range vt.Data {
					vt.Data[i] = float32(math.Float64frombits(binary.LittleEndian.Uint64(g.Vt[8*i:])))
				}
				angle, err := linalg.SubspaceAngle(d.Vt.Slice(0, g.Router, 0, g.Cols), vt)
				if err != nil || !(angle <= opt.RouterTolerance) {
					t.Errorf("rank %d: the leading %d right vectors are off by %v from numpy's (%v)", r, g.Router, angle, err)
				}
			}
		})
	}
}

func TestGoldenLowRank(t *testing.T) {
	for _, g := range golden(t).LoRA {
		t.Run(g.Name, func(t *testing.T) {
			b, a := matrix(g.Out, g.Rank, g.B), matrix(g.Rank, g.In, g.A)
			d, err := linalg.LowRank(b, a, g.Scale, 2)
			if err != nil {
				t.Fatal(err)
			}
			r := min(g.Out, g.In, g.Rank)
			dense := kernel.New64(g.Out, g.In)
			kernel.Gemm64(1, false, false, g.Scale, linalgtest.Widen(b), linalgtest.Widen(a), 0, dense)
			d.Energy = linalgtest.Energy(dense)
			linalgtest.CheckInvariants(t, dense, linalgtest.Of(d), r, 1e-6)
			if res := linalgtest.Residual(dense, linalgtest.Of(d)); !(res <= 1e-12*d.Energy) {
				t.Errorf("residual %v of %v", res, d.Energy)
			}
			for i, s := range d.S {
				if !(math.Abs(s-g.S[i]) <= 1e-13*g.S[0]) {
					t.Errorf("σ[%d] = %v, numpy has %v", i, s, g.S[i])
				}
			}
			if !(d.Captured == d.Certificate.Bound && d.Certificate.Met) {
				t.Errorf("%+v", d.Certificate)
			}
		})
	}
}

func TestLowRankErrors(t *testing.T) {
	nan := kernel.New(2, 3)
	nan.Set(1, 2, float32(math.NaN()))
	for name, call := range map[string]func() (linalg.SVD, error){
		"shapes": func() (linalg.SVD, error) { return linalg.LowRank(kernel.New(2, 3), kernel.New(2, 5), 1, 1) },
		"scale":  func() (linalg.SVD, error) { return linalg.LowRank(kernel.New(2, 3), kernel.New(3, 5), math.Inf(1), 1) },
		"nan":    func() (linalg.SVD, error) { return linalg.LowRank(nan, kernel.New(3, 5), 1, 1) },
	} {
		if _, err := call(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for _, sh := range [][3]int{{4, 0, 5}, {0, 2, 5}, {4, 2, 0}} {
		d, err := linalg.LowRank(kernel.New(sh[0], sh[1]), kernel.New(sh[1], sh[2]), 1, 1)
		if err != nil || len(d.S) != 0 {
			t.Errorf("%v: %v, %v", sh, d.S, err)
		}
	}
}
