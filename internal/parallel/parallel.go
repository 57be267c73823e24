// Package parallel runs bounded loops on several cores.
//
// Nothing here decides an order of reduction: a caller that sums writes one
// partial result per index and adds them in index order, so that its result
// does not depend on the number of workers.
package parallel

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Workers returns the number of goroutines that a request for n means: n
// itself, bounded by GOMAXPROCS; n <= 0 means GOMAXPROCS.
func Workers(n int) int {
	limit := runtime.GOMAXPROCS(0)
	if n <= 0 || n > limit {
		return limit
	}
	return n
}

// For calls f(i) once for every i in [0,n) on at most Workers(workers)
// goroutines, the caller's own among them, and returns when all calls have
// returned. Indices are handed out in ascending order, one at a time. With one
// worker (or n ≤ 1) everything runs on the caller's goroutine, in order.
//
// A panic in f stops the handing out of further indices and is raised again,
// as a *[Panic], on the caller's goroutine once all workers have stopped.
func For(workers, n int, f func(i int)) {
	Stages(workers, func(_, i int) { f(i) }, n)
}

// Stages is [For] over several loops, one after the other: f(s,i) for every i
// in [0,counts[s]). A stage starts when all calls of those before it have
// returned; the workers stay together from one to the next.
func Stages(workers int, f func(stage, i int), counts ...int) {
	most := 0
	for _, n := range counts {
		most = max(most, n)
	}
	w := min(Workers(workers), most)
	if w <= 1 {
		for s, n := range counts {
			for i := range n {
				f(s, i)
			}
		}
		return
	}
	r := &region{f: f, counts: counts}
	for _, n := range counts {
		r.total += max(0, n)
	}
	for range w - 1 {
		summon(r)
	}
	r.work()
	r.close()
	if p := r.panic.Load(); p != nil {
		panic(p)
	}
}

// Panic carries a panic of a worker to the goroutine that called [For].
type Panic struct {
	Value any    // what the worker panicked with
	Stack []byte // the worker's stack at that moment
}

func newPanic(v any) *Panic {
	if p, ok := v.(*Panic); ok {
		return p
	}
	return &Panic{Value: v, Stack: debug.Stack()}
}

// Error describes the panic together with the stack of the worker.
func (p *Panic) Error() string { return fmt.Sprintf("%v\n\nworker: %s", p.Value, p.Stack) }

// Unwrap returns the panic's value where that is an error.
func (p *Panic) Unwrap() error {
	err, _ := p.Value.(error)
	return err
}
