package vfs

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// advise tells the system what becomes of mapped pages; refusing it changes
// nothing.
func advise(b []byte, a advice) {
	switch a {
	case willNeed:
		_ = unix.Madvise(b, unix.MADV_WILLNEED)
	case dontNeed:
		_ = unix.Madvise(b, unix.MADV_DONTNEED)
	case load:
		_ = unix.Madvise(b, unix.MADV_POPULATE_READ) // since Linux 5.14
	case drop:
		_ = unix.Madvise(b, unix.MADV_PAGEOUT) // since Linux 5.4
		_ = unix.Madvise(b, unix.MADV_DONTNEED)
	}
}

// cached returns the share of the pages of b, which starts at one, that are in
// memory.
func cached(b []byte) float64 {
	const step = 1 << 16 // pages
	var in [step]byte
	pages, found := 0, 0
	for len(b) > 0 {
		n := min(len(b), step*int(pageSize))
		if _, _, errno := unix.Syscall(unix.SYS_MINCORE, start(b), uintptr(n), uintptr(unsafe.Pointer(&in))); errno != 0 {
			return 1
		}
		k := (n + int(pageSize) - 1) / int(pageSize)
		for _, p := range in[:k] {
			found += int(p & 1)
		}
		pages, b = pages+k, b[n:]
	}
	return float64(found) / float64(pages)
}
