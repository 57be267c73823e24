package parallel

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// region is the stages that some workers run together. Their calls are counted
// through: the first of a stage is the number of all calls before it.
type region struct {
	f      func(stage, i int)
	counts []int
	total  int
	next   atomic.Int64 // the call to hand out
	done   atomic.Int64 // calls that have returned
	inside atomic.Int64 // helpers at work, and closed
	panic  atomic.Pointer[Panic]
}

// closed, in region.inside, keeps further helpers out.
const closed = 1 << 32

// work runs calls until none is left.
func (r *region) work() {
	defer func() {
		if v := recover(); v != nil {
			r.panic.CompareAndSwap(nil, newPanic(v))
			r.next.Store(int64(r.total))
		}
	}()
	for stage, first := 0, 0; ; {
		i := int(r.next.Add(1) - 1)
		if i >= r.total {
			return
		}
		for i >= first+max(0, r.counts[stage]) {
			first += max(0, r.counts[stage])
			stage++
		}
		await(func() bool { return r.done.Load() >= int64(first) || r.panic.Load() != nil })
		if r.panic.Load() != nil {
			return
		}
		r.f(stage, i-first)
		r.done.Add(1)
	}
}

// help joins the region unless it is closed.
func (r *region) help() {
	if r.inside.Add(1) < closed {
		r.work()
	}
	r.inside.Add(-1)
}

// close keeps out the helpers that come too late and waits for the others.
func (r *region) close() {
	r.inside.Add(closed)
	await(func() bool { return r.inside.Load() == closed })
}

// A goroutine that sleeps takes a tenth of a millisecond to wake on a core that
// sleeps, as long as many a matrix product. So whoever waits first looks again
// and again, letting other goroutines run in between: a helper for its next
// region for about as long as waking it would take, those inside one for longer,
// since they wait for calls that are running.
const (
	linger   = 100 * time.Microsecond
	patience = time.Millisecond
	nap      = 50 * time.Microsecond
)

// watch returns true once ready does, and false after the limit.
func watch(limit time.Duration, ready func() bool) bool {
	for start := time.Now(); ; runtime.Gosched() {
		for range 100 {
			if ready() {
				return true
			}
		}
		if time.Since(start) >= limit {
			return false
		}
	}
}

// await returns once ready returns true.
func await(ready func() bool) {
	if ready() || watch(patience, ready) {
		return
	}
	for !ready() {
		time.Sleep(nap)
	}
}

// helper is a goroutine that waits a while for the next region before it ends.
type helper struct{ region atomic.Pointer[region] }

// gone is the region of helpers that have ended.
var gone = new(region)

var idle struct {
	sync.Mutex
	helpers []*helper
}

// summon has an idle helper, or else a new one, help with r.
func summon(r *region) {
	for {
		idle.Lock()
		n := len(idle.helpers)
		if n == 0 {
			idle.Unlock()
			h := new(helper)
			h.region.Store(r)
			go h.serve()
			return
		}
		h := idle.helpers[n-1]
		idle.helpers = idle.helpers[:n-1]
		idle.Unlock()
		if h.region.CompareAndSwap(nil, r) {
			return
		}
	}
}

// serve helps with one region after another.
func (h *helper) serve() {
	for {
		h.region.Load().help()
		h.region.Store(nil)
		idle.Lock()
		idle.helpers = append(idle.helpers, h)
		idle.Unlock()
		watch(linger, func() bool { return h.region.Load() != nil })
		if h.region.CompareAndSwap(nil, gone) {
			return
		}
	}
}
