package vfs

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Guard runs fn and turns a memory fault inside it into an error: a mapped
// file that somebody truncates faults when it is read beyond its new end, and
// so does one on a disk that fails. Only faults in fn's own goroutine are
// caught; any other panic goes on. The error holds the address, not the file:
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
		if !ok {
			panic(r)
		}
		err = fmt.Errorf("mapped file changed or became unreadable while it was read (fault at %#x)", fault.Addr())
	}()
	return fn()
}
