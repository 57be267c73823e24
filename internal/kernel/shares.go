package kernel

import "smelt/internal/parallel"

// shares cuts the rows of a weight that is streamed into tasks for some workers.
// The longer a task, the longer are the runs that memory is read in; the shorter
// the last ones, the less a worker waits for another. So tasks come in rounds of
// one per worker: a round takes half of what is left, and the last one all of it.
type shares struct {
	rows, unit      int // tasks are whole units of rows
	most            int // rows at once
	workers, rounds int
}

// shareBytes is about how much of a weight the shortest tasks read.
const shareBytes = 128 << 10

// newShares cuts rows of so many bytes.
func newShares(workers, rows, bytes int) shares {
	unit := max(1, active.streams.rows)
	least := max(1, shareBytes/max(1, bytes)/unit) * unit
	s := shares{rows: rows, unit: unit, most: rows, rounds: 1}
	if b := active.streams.bytes; b > 0 && bytes%b != 0 {
		s.most = 4 * least // the ends of rows are read apart, from the caches
	}
	s.workers = max(1, min(parallel.Workers(workers), (rows+least-1)/least))
	for s.workers > 1 && rows>>s.rounds/s.workers >= least {
		s.rounds++
	}
	return s
}

func (s shares) tasks() int { return s.workers * s.rounds }

// each calls f for the rows [lo,hi) of every task.
func (s shares) each(f func(lo, hi int)) {
	parallel.For(s.workers, s.tasks(), func(t int) { s.task(t, f) })
}

// task calls f for the rows [lo,hi) of task t.
func (s shares) task(t int, f func(lo, hi int)) {
	hi := s.before(t + 1)
	for lo := s.before(t); lo < hi; lo += s.most {
		f(lo, min(hi, lo+s.most))
	}
}

// before returns the number of rows of the tasks before t.
func (s shares) before(t int) int {
	if t == s.tasks() {
		return s.rows
	}
	round := t / s.workers
	left := s.rows >> round
	part := left
	if round < s.rounds-1 {
		part = left - left>>1
	}
	return (s.rows - left + part*(t%s.workers)/s.workers) / s.unit * s.unit
}
