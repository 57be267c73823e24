package engine

import "sync"

// aheadBytes is what is read before it is needed, at most.
const aheadBytes = 1 << 30

// ahead reads the inputs of units in their order while others are computed, so
// that no computation waits for the disk, page by page. What it found on the
// disk alone leaves the system's memory again when it has been used: a run
// through checkpoints that are larger than memory neither drives out what
// other programs use nor takes fresh pages all the time. A nil ahead reads
// nothing.
type ahead struct {
	experts int
	find    func(input) (from source, bytes int64, ok bool)
	limit   int64 // of bytes
	units   []Unit
	done    chan struct{}

	mu    sync.Mutex
	moved sync.Cond
	begun bool
	over  bool
	next  int            // the unit to be read next
	gone  int            // the unit after the last that has been written
	held  map[input]held // what has been read and not yet let go
	bytes int64          // of it
}

// input is a tensor of the base's name, of an expert, or of the base (-1).
type input struct {
	expert int
	name   string
}

type held struct {
	bytes int64
	cold  bool // was not in memory before
}

// source is a checkpoint whose tensors are read into memory and let go.
type source interface {
	Load(name string) (cold bool)
	Release(name string)
	Drop(name string)
}

func newAhead(in *Inputs, units []Unit) *ahead {
	a := &ahead{
		experts: len(in.Experts), find: in.find, limit: aheadBytes,
		units: units, done: make(chan struct{}), held: map[input]held{},
	}
	a.moved.L = &a.mu
	return a
}

// find returns where an input comes from and its size; ok is false where there
// is none.
func (in *Inputs) find(t input) (from source, bytes int64, ok bool) {
	if t.expert >= 0 {
		info, ok := in.Experts[t.expert].Lookup(t.name)
		return in.Experts[t.expert], info.Bytes(), ok
	}
	info, ok := in.Base.Lookup(t.name)
	return in.Base, info.Bytes(), ok
}

// begin says that unit i is going to be computed: reading starts with the
// first.
func (a *ahead) begin(i int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.begun {
		a.begun, a.next = true, i
		go a.run()
	}
}

// end says that unit i has been computed, so that nobody reads it any more.
func (a *ahead) end(i int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.next = max(a.next, i+1)
}

// stop ends the reading.
func (a *ahead) stop() {
	a.mu.Lock()
	a.over = true
	begun := a.begun
	a.moved.Signal()
	a.mu.Unlock()
	if begun {
		<-a.done
	}
}

func (a *ahead) run() {
	defer close(a.done)
	for i, ok := a.unit(); ok; i, ok = a.unit() {
		for _, name := range a.units[i].Tensors {
			for e := -1; e < a.experts; e++ {
				a.load(i, input{e, name})
			}
		}
	}
}

// unit returns the next unit to be read; ok is false at the end.
func (a *ahead) unit() (i int, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.next < len(a.units) && a.units[a.next].Action == ActionOwn {
		a.next++
	}
	i = a.next
	a.next++
	return i, !a.over && i < len(a.units)
}

// load reads an input of unit i when there is room for it.
func (a *ahead) load(i int, t input) {
	from, n, ok := a.find(t)
	if !ok {
		return
	}
	a.mu.Lock()
	for !a.over && a.bytes > 0 && a.bytes+n > a.limit {
		a.moved.Wait()
	}
	late := a.over || i < a.gone
	if !late {
		a.bytes += n - a.held[t].bytes
		a.held[t] = held{bytes: n}
	}
	a.mu.Unlock()
	if late || !from.Load(t.name) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.held[t]; ok {
		a.held[t] = held{n, true}
	} else {
		from.Drop(t.name) // it was let go while it was being read
	}
}

// forget says that an input has been used, and whether it was cold.
func (a *ahead) forget(t input) (cold bool) {
	if a == nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	h := a.held[t]
	a.bytes -= h.bytes
	delete(a.held, t)
	a.moved.Signal()
	return h.cold
}

// letGo lets the pages of an input go, which has been used.
func (w *worker) letGo(t input) {
	from, _, _ := w.in.find(t)
	w.ahead.letGo(t, from)
}

// letGo drops what was cold and releases what was in memory anyway.
func (a *ahead) letGo(t input, from source) {
	if a.forget(t) {
		from.Drop(t.name)
	} else {
		from.Release(t.name)
	}
}

// written says that unit i has been written.
func (a *ahead) written(i int) {
	if a != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.gone = i + 1
	}
}

// release lets go of the inputs of a unit that has been written.
func (w *worker) release(i int) {
	w.ahead.written(i)
	for _, name := range w.plan.Units[i].Tensors {
		for e := -1; e < len(w.in.Experts); e++ {
			w.letGo(input{e, name})
		}
	}
}

// prefetch asks for the inputs of a unit that comes soon.
func (w *worker) prefetch(i int) {
	if i >= len(w.plan.Units) || w.plan.Units[i].Action == ActionOwn {
		return
	}
	for _, name := range w.plan.Units[i].Tensors {
		w.in.Base.Prefetch(name)
		for _, e := range w.in.Experts {
			e.Prefetch(name)
		}
	}
}
