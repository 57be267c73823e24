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
	"sync"
	"sync/atomic"
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
	w := min(Workers(workers), n)
	if w <= 1 {
		for i := range n {
			f(i)
		}
		return
	}
	var (
		next   atomic.Int64
		first  atomic.Pointer[Panic]
		helper sync.WaitGroup
	)
	work := func() {
		defer func() {
			if v := recover(); v != nil {
				first.CompareAndSwap(nil, newPanic(v))
				next.Store(int64(n))
			}
		}()
		for {
			i := int(next.Add(1) - 1)
			if i >= n {
				return
			}
			f(i)
		}
	}
	helper.Add(w - 1)
	for range w - 1 {
		go func() {
			defer helper.Done()
			work()
		}()
	}
	work()
	helper.Wait()
	if p := first.Load(); p != nil {
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
