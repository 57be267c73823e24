package vfs

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"unsafe"
)

// ranges are the addresses of mapped files, by their first.
type ranges struct {
	mu   sync.RWMutex
	size map[uintptr]int
}

// mapped are the files that are mapped at present.
var mapped = ranges{size: make(map[uintptr]int)}

func (r *ranges) add(b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.size[start(b)] = len(b)
}

func (r *ranges) remove(b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.size, start(b))
}

func (r *ranges) holds(addr uintptr) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for first, n := range r.size {
		if addr >= first && addr-first < uintptr(n) {
			return true
		}
	}
	return false
}

func start(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

// Guard runs fn and turns a memory fault inside it into an error: a mapped
// file that somebody truncates faults when it is read beyond its new end, and
// so does one on a disk that fails. Only faults in fn's own goroutine and at
// addresses of mapped files are caught; any other panic goes on. The error holds the address, not the file:
// the caller adds what it was reading.
func Guard(fn func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		fault, ok := r.(interface {
			runtime.Error
			Addr() uintptr
		})
		if !ok || !mapped.holds(fault.Addr()) {
			panic(r) // a bug of ours, not of a file
		}
		err = fmt.Errorf("mapped file changed or became unreadable while it was read (fault at %#x)", fault.Addr())
	}()
	return fn()
}
