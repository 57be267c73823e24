package cli

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// bytes writes a size with three digits: 1.23 GB.
func bytes(n int64) string {
	v := float64(n)
	for _, unit := range []string{"B", "kB", "MB", "GB"} {
		if v < 1000 {
			return trim(v) + " " + unit
		}
		v /= 1000
	}
	return trim(v) + " TB"
}

// count writes a number of parameters: 1.23 M.
func count(n int64) string {
	v := float64(n)
	for _, unit := range []string{"", " k", " M", " B"} {
		if v < 1000 {
			return trim(v) + unit
		}
		v /= 1000
	}
	return trim(v) + " T"
}

func trim(v float64) string {
	switch {
	case v == math.Trunc(v) && v < 1000:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v < 10:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case v < 100:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

func seconds(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// size is a flag: 5GB, 500MB, 1GiB, or bytes.
type size int64

func (s *size) String() string { return bytes(int64(*s)) }
func (s *size) Type() string   { return "SIZE" }
func (s *size) Set(text string) error {
	units := []struct {
		suffix string
		factor float64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1}, {"", 1}}
	for _, u := range units {
		number, ok := strings.CutSuffix(text, u.suffix)
		if !ok {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || !(v > 0) || v*u.factor > 1<<62 {
			break
		}
		*s = size(v * u.factor)
		return nil
	}
	return fmt.Errorf("want a size such as 5GB or 500MiB")
}

// rank is a flag: a number, or dense.
type rank struct {
	n     int
	dense bool
}

func (r *rank) String() string {
	if r.dense {
		return "dense"
	}
	return strconv.Itoa(r.n)
}
func (r *rank) Type() string { return "N|dense" }
func (r *rank) Set(text string) error {
	if text == "dense" {
		*r = rank{dense: true}
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return fmt.Errorf("want a number from 1, or dense")
	}
	*r = rank{n: n}
	return nil
}

// times is a flag: 1.25x, or 1.25.
type times float64

func (t *times) String() string { return fmt.Sprintf("%gx", float64(*t)) }
func (t *times) Type() string   { return "FACTOR" }
func (t *times) Set(text string) error {
	v, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSuffix(text, "x"), "×"), 64)
	if err != nil || !(v > 1) || math.IsInf(v, 0) {
		return fmt.Errorf("want parameters relative to the base, above 1: 1.25x")
	}
	*t = times(v)
	return nil
}

// fraction is a flag: part i of n.
type fraction struct{ i, n int }

func (f *fraction) String() string { return fmt.Sprintf("%d/%d", f.i, f.n) }
func (f *fraction) Type() string   { return "I/N" }
func (f *fraction) Set(text string) error {
	left, right, ok := strings.Cut(text, "/")
	i, err := strconv.Atoi(left)
	n, err2 := strconv.Atoi(right)
	if !ok || err != nil || err2 != nil || i < 1 || i > n || n > 1<<16 {
		return fmt.Errorf("want part i of n, from 1: 2/8")
	}
	*f = fraction{i, n}
	return nil
}
