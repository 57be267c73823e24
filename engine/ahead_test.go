package engine

import (
	"fmt"
	"slices"
	"sync"
	"testing"
)

// disk stands for base and experts: it notes what becomes of their tensors.
type disk struct {
	sizes  map[input]int64
	cold   map[input]bool
	loaded chan input  // after each load; has room for all
	inside func(input) // called while a tensor is being read; may be nil
	mu     sync.Mutex
	log    map[string][]input // by what has been done
}

// part is one checkpoint of a disk.
type part struct {
	*disk
	expert int
}

func (p part) note(what, name string) input {
	t := input{p.expert, name}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log[what] = append(p.log[what], t)
	return t
}

func (p part) Load(name string) bool {
	t := p.note("load", name)
	if p.inside != nil {
		p.inside(t)
	}
	p.loaded <- t
	return p.cold[t]
}

func (p part) Release(name string) { p.note("release", name) }
func (p part) Drop(name string)    { p.note("drop", name) }

func (d *disk) find(t input) (source, int64, bool) {
	n, ok := d.sizes[t]
	return part{d, t.expert}, n, ok
}

func (d *disk) did(what string) []input {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.log[what])
}

// reading is an ahead of units with two tensors each, "0a" and "0b" of unit 0,
// that base and experts all have. Every second tensor is cold.
func reading(units, experts int, size, limit int64) (*ahead, *disk, []input) {
	d := &disk{sizes: map[input]int64{}, cold: map[input]bool{}, log: map[string][]input{}}
	var list []Unit
	var all []input
	for i := range units {
		u := Unit{Tensors: []string{fmt.Sprint(i, "a"), fmt.Sprint(i, "b")}}
		for _, name := range u.Tensors {
			for e := -1; e < experts; e++ {
				t := input{e, name}
				d.sizes[t], d.cold[t] = size, len(all)%2 == 0
				all = append(all, t)
			}
		}
		list = append(list, u)
	}
	d.loaded = make(chan input, len(all))
	a := newAhead(&Inputs{}, list)
	a.find, a.experts, a.limit = d.find, experts, limit
	return a, d, all
}

// write ends unit i as a worker does when it has been written.
func (d *disk) write(a *ahead, i int) {
	a.end(i)
	a.written(i)
	for _, name := range a.units[i].Tensors {
		for e := -1; e < a.experts; e++ {
			a.letGo(input{e, name}, part{d, e})
		}
	}
}

// empty fails where an ahead still holds anything.
func empty(t *testing.T, a *ahead) {
	t.Helper()
	if a.bytes != 0 || len(a.held) != 0 {
		t.Errorf("%d bytes of %d inputs are still held, want none", a.bytes, len(a.held))
	}
}

func TestAheadOrder(t *testing.T) {
	a, d, all := reading(5, 2, 10, 1000)
	a.units = slices.Insert(a.units, 2, Unit{Action: ActionOwn, Tensors: []string{"0a"}}) // has nothing to read
	delete(d.sizes, all[7])                                                               // an adapter, say
	want := slices.Delete(slices.Clone(all), 7, 8)
	a.begin(0)
	a.begin(1) // another worker
	<-a.done
	a.stop()
	if got := d.did("load"); !slices.Equal(got, want) {
		t.Errorf("loaded %v, want %v", got, want)
	}
	for i := range a.units {
		if a.units[i].Action != ActionOwn {
			d.write(a, i)
		}
	}
	empty(t, a)
	var cold, warm []input
	for _, x := range all {
		if _, ok := d.sizes[x]; ok && d.cold[x] {
			cold = append(cold, x)
		} else {
			warm = append(warm, x)
		}
	}
	if got := d.did("drop"); !slices.Equal(got, cold) {
		t.Errorf("dropped %v, want what was cold: %v", got, cold)
	}
	if got := d.did("release"); !slices.Equal(got, warm) {
		t.Errorf("released %v, want what was warm: %v", got, warm)
	}
}

// TestAheadLimit: no more is held than the limit, unless one input alone is
// larger, and it is then alone.
func TestAheadLimit(t *testing.T) {
	for _, limit := range []int64{65, 60, 100, 1000} { // a unit has 60 bytes
		a, d, all := reading(6, 2, 10, limit)
		full := int64(0)
		d.inside = func(input) {
			a.mu.Lock()
			defer a.mu.Unlock()
			full = max(full, a.bytes)
		}
		a.begin(0)
		for i := range a.units {
			for range 6 {
				<-d.loaded
			}
			d.write(a, i)
		}
		<-a.done
		if got := d.did("load"); !slices.Equal(got, all) {
			t.Errorf("limit %d: loaded %v, want %v", limit, got, all)
		}
		if full > limit {
			t.Errorf("limit %d: %d bytes were held", limit, full)
		}
		empty(t, a)
	}

	a, d, all := reading(3, 0, 10, 15)
	for _, x := range all {
		if x.name[1:] == "b" {
			delete(d.sizes, x)
		}
	}
	large := input{-1, "1a"}
	d.sizes[large] = 100
	d.inside = func(x input) {
		a.mu.Lock()
		defer a.mu.Unlock()
		if len(a.held) != 1 || a.bytes != d.sizes[x] {
			t.Errorf("%v: %d bytes of %d inputs are held, want it alone", x, a.bytes, len(a.held))
		}
	}
	a.begin(0)
	for i := range a.units {
		<-d.loaded
		d.write(a, i)
	}
	<-a.done
	if n := len(d.did("load")); n != 3 {
		t.Errorf("%d inputs were loaded, want 3", n)
	}
	empty(t, a)
}

// TestAheadStop: stop ends the reader and waits for it, whatever it is doing.
func TestAheadStop(t *testing.T) {
	t.Run("before begin", func(t *testing.T) {
		a, d, _ := reading(2, 1, 10, 100)
		a.stop()
		a.begin(0) // a worker that comes late
		a.stop()
		if n := len(d.did("load")); n != 0 {
			t.Errorf("%d inputs were loaded after stop", n)
		}
	})
	t.Run("while it waits for room", func(t *testing.T) {
		a, d, _ := reading(2, 1, 10, 25)
		a.begin(0)
		<-d.loaded
		<-d.loaded
		a.stop() // nobody writes a unit
		if n := len(d.did("load")); n != 2 {
			t.Errorf("%d inputs were loaded, want 2", n)
		}
	})
	t.Run("while it reads", func(t *testing.T) {
		a, d, _ := reading(2, 1, 10, 1000)
		d.inside = func(input) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.over = true // as stop does first
		}
		a.begin(0)
		a.stop()
		if n := len(d.did("load")); n > 1 {
			t.Errorf("%d inputs were loaded, want at most 1", n)
		}
	})
	t.Run("after the end", func(t *testing.T) {
		a, _, _ := reading(2, 1, 10, 1000)
		a.begin(0)
		<-a.done
		a.stop()
		a.stop()
	})
}

// TestAheadLate: a unit that is written before it has been read is not read any
// more, and what was being read meanwhile is not held, and dropped if it was cold.
func TestAheadLate(t *testing.T) {
	a, d, all := reading(3, 1, 10, 1000)
	d.inside = func(x input) {
		if x == all[0] {
			d.write(a, 0)
			d.write(a, 1)
		}
	}
	a.begin(0)
	<-a.done
	if got, want := d.did("load"), append(slices.Clone(all[:1]), all[8:]...); !slices.Equal(got, want) {
		t.Errorf("loaded %v, want %v", got, want)
	}
	if a.bytes != 40 {
		t.Errorf("%d bytes are held, want 40, of unit 2", a.bytes)
	}
	if got := d.did("drop"); !slices.Equal(got, all[:1]) {
		t.Errorf("dropped %v, want %v, which was cold", got, all[:1])
	}
	d.write(a, 2)
	empty(t, a)
}

// TestAheadSkips: a unit that has been computed is not read, although it has
// not been written; a tensor of two units counts once.
func TestAheadSkips(t *testing.T) {
	a, d, all := reading(4, 1, 10, 1000)
	a.units[3] = a.units[0]
	d.inside = func(x input) {
		if x == all[0] {
			a.end(1)
		}
	}
	a.begin(0)
	<-a.done
	if got, want := d.did("load"), slices.Concat(all[:4], all[8:12], all[:4]); !slices.Equal(got, want) {
		t.Errorf("loaded %v, want %v", got, want)
	}
	if a.bytes != 80 {
		t.Errorf("%d bytes are held, want 80", a.bytes)
	}
	for i := range a.units {
		d.write(a, i)
	}
	empty(t, a)
}

// TestAheadNil: whoever reads nothing ahead releases only.
func TestAheadNil(t *testing.T) {
	d := &disk{log: map[string][]input{}}
	var a *ahead
	a.written(0)
	a.letGo(input{0, "a"}, part{d, 0})
	if len(d.did("drop")) != 0 || len(d.did("release")) != 1 {
		t.Errorf("did %v, want one release", d.log)
	}
}
