package engine

import (
	"context"
	"sync"

	"smelt/internal/vfs"
)

// ordered runs produce for every i in [lo, hi) on up to workers goroutines and
// hands the results to consume one at a time in rising order, so that what
// consume writes does not depend on the workers. At most 2·workers+2 results
// are in flight, which bounds memory. Of several failures the one with the
// lowest i is returned: it does not depend on timing either.
//
// produce runs under vfs.Guard: reading a mapped file that was cut short is
// an error, not a crash.
func ordered[T any](ctx context.Context, lo, hi, workers int, produce func(i int) (T, error), consume func(i int, v T) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait() // after cancel
	defer cancel()

	type outcome struct {
		value T
		err   error
	}
	type task struct {
		i    int
		done chan outcome
	}
	workers = max(workers, 1)
	tasks := make(chan task)
	queue := make(chan task, 2*workers+1)
	wg.Add(1)
	go func() {
		defer wg.Done()
		defer close(tasks)
		defer close(queue)
		for i := lo; i < hi; i++ {
			t := task{i, make(chan outcome, 1)}
			select {
			case queue <- t:
			case <-ctx.Done():
				return
			}
			select {
			case tasks <- t:
			case <-ctx.Done():
				return
			}
		}
	}()
	for range min(workers, max(hi-lo, 1)) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for t := range tasks {
				var o outcome
				o.err = vfs.Guard(func() (err error) {
					o.value, err = produce(t.i)
					return err
				})
				t.done <- o
			}
		}()
	}
	for t := range queue {
		if ctx.Err() != nil { // even where a result is ready
			return context.Cause(ctx)
		}
		var o outcome
		select {
		case o = <-t.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if o.err != nil {
			return o.err
		}
		if err := consume(t.i, o.value); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}
