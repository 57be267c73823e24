// Package ensemble combines what several models answer to the same inputs.
//
// Outputs are [N, C]: one row an input, one column a class. The combinations
// work on any outputs; of classifiers they are usually given probabilities,
// which [Probabilities] makes of logits.
package ensemble

import (
	"errors"
	"fmt"

	"smelt/internal/kernel"
	"smelt/linalg"
)

// Probabilities sets dst to the softmax of each row of logits. dst may be
// logits.
func Probabilities(dst, logits linalg.Matrix) error {
	if err := check(dst, []linalg.Matrix{logits}); err != nil {
		return err
	}
	for i := range logits.Rows {
		kernel.Softmax(dst.Row(i), logits.Row(i))
	}
	return nil
}

// Mean sets dst to the mean of the outputs. dst may be one of them.
func Mean(dst linalg.Matrix, outputs []linalg.Matrix) error {
	weights := make([]float64, len(outputs))
	for i := range weights {
		weights[i] = 1
	}
	return Weighted(dst, outputs, weights)
}

// Weighted sets dst to the mean of the outputs by weights, whose sum counts as
// one. dst may be one of the outputs.
func Weighted(dst linalg.Matrix, outputs []linalg.Matrix, weights []float64) error {
	if err := check(dst, outputs); err != nil {
		return err
	}
	if len(weights) != len(outputs) {
		return fmt.Errorf("ensemble: %d weights for %d models", len(weights), len(outputs))
	}
	total := 0.0
	for i, w := range weights {
		if !(w >= 0) || w-w != 0 {
			return fmt.Errorf("ensemble: weight %d is %v, want a finite number, at least 0", i, w)
		}
		total += w
	}
	if total == 0 {
		return errors.New("ensemble: all weights are 0")
	}
	each(dst, outputs, func(values []float32) float32 {
		sum := 0.0
		for i, v := range values {
			sum += weights[i] * float64(v)
		}
		return float32(sum / total)
	})
	return nil
}

// Max sets dst to the largest of the outputs, element by element: the most
// confident model decides. dst may be one of the outputs.
func Max(dst linalg.Matrix, outputs []linalg.Matrix) error {
	if err := check(dst, outputs); err != nil {
		return err
	}
	each(dst, outputs, func(values []float32) float32 {
		most := values[0]
		for _, v := range values[1:] {
			most = max(most, v) // NaN wins, as in torch
		}
		return most
	})
	return nil
}

// check holds the shapes against each other.
func check(dst linalg.Matrix, outputs []linalg.Matrix) error {
	if len(outputs) == 0 {
		return errors.New("ensemble: no outputs to combine")
	}
	for i, x := range outputs {
		if x.Rows != dst.Rows || x.Cols != dst.Cols {
			return fmt.Errorf("ensemble: the output of model %d is [%d,%d], want [%d,%d]", i, x.Rows, x.Cols, dst.Rows, dst.Cols)
		}
	}
	return nil
}

// each combines the outputs element by element.
func each(dst linalg.Matrix, outputs []linalg.Matrix, f func(values []float32) float32) {
	values := make([]float32, len(outputs))
	for r := range dst.Rows {
		to := dst.Row(r)
		for c := range to {
			for i, x := range outputs {
				values[i] = x.Data[r*x.Stride+c]
			}
			to[c] = f(values)
		}
	}
}
