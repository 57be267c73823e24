//go:build unix && !linux

package vfs

import "golang.org/x/sys/unix"

// advise tells the system what becomes of mapped pages; refusing it changes
// nothing.
func advise(b []byte, a advice) {
	how := unix.MADV_WILLNEED
	if a == dontNeed || a == drop {
		how = unix.MADV_DONTNEED
	}
	_ = unix.Madvise(b, how)
}

// cached is unknown here: what is said to be in memory is never dropped, but is
// to be read all the same.
func cached([]byte) float64 { return 0.99 }
